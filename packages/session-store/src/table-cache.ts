import type { Commit } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import { type DirectoryRef, logKey } from "./keys.ts";
import { SharedCache } from "./shared-cache.ts";
import type { StoreContext } from "./store-context.ts";
import { readTable } from "./table-reader.ts";

/** Memory that decoded tables may take, in bytes, as estimated: some 300,000 files. */
const TABLE_CACHE_BYTES = 128 * 1024 * 1024;

/** About what an entry and a chunk with its share of a frame take in memory, in bytes. */
const ENTRY_BYTES = 250;
const CHUNK_BYTES = 150;

/**
 * The file tables of the generations that were looked at last, decoded: whoever reads a session file by file would else
 * read and decode its table for each of them. A generation never changes, so an entry is valid for ever; its name has the
 * random id of its commit in it, so it is not mistaken for that of a session of the same name that was deleted.
 *
 * What is given is shared, and not to be changed.
 */
export class TableCache {
  readonly #context: StoreContext;
  readonly #tables = new SharedCache<FileTable>(TABLE_CACHE_BYTES, estimateBytes);

  constructor(context: StoreContext) {
    this.#context = context;
  }

  /** @throws as `readTable` */
  get(ref: DirectoryRef, commit: Commit, signal?: AbortSignal): Promise<FileTable> {
    const name = `${logKey(ref, commit.generation)} ${commit.id}`;
    return this.#tables.get(name, async () => (await readTable(this.#context, ref, commit)).table, signal);
  }
}

function estimateBytes(table: FileTable): number {
  let bytes = 0;
  for (const entry of table.entries()) {
    bytes += ENTRY_BYTES + entry.path.length;
    if (entry.type === "file") bytes += entry.chunks.length * CHUNK_BYTES;
  }
  return bytes;
}
