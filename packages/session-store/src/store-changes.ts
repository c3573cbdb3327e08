import { contentSize } from "./backend/backend.ts";
import { openContent } from "./backend/open-content.ts";
import type { PlannedChanges, PlannedFile } from "./file-changes.ts";
import { textOfPath } from "./format/byte-path.ts";
import type { Commit } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import { CHUNK_BYTES } from "./format/limits.ts";
import { type Chunk, type FileEntry, sameEntry, type TableEntry } from "./format/table-entry.ts";
import type { DirectoryRef } from "./keys.ts";
import { type FrameSlot, PackWriter } from "./pack-writer.ts";
import type { StoredDelta } from "./publish-delta.ts";
import type { StoreContext } from "./store-context.ts";
import { FrameBuilder, type PackedChunk } from "./tree/pack-files.ts";
import { Slices } from "./tree/slices.ts";

/** Below this many bytes, files are compared with their own last content only, not with all chunks of the session. */
const DEDUPLICATE_FROM_BYTES = 1024 * 1024;

/** Changes whose content is stored. */
export interface StoredChanges extends StoredDelta {
  /** All that was asked to be set and the directories made for it, also where the table has the same already. */
  readonly entries: readonly TableEntry[];
}

/**
 * Stores the content of changes: packs, but no record, so nothing is visible to anybody. Memory is bounded, however long
 * a file is; content is read once, from its beginning.
 *
 * @param base the generation the changes are made to; undefined: generation 0
 * @throws ContentSizeError; errors of the store and of the sources of content
 */
export async function storeChanges(
  context: StoreContext,
  ref: DirectoryRef,
  base: Commit | undefined,
  table: FileTable,
  planned: PlannedChanges,
  signal: AbortSignal | undefined,
): Promise<StoredChanges> {
  const writer = new PackWriter(context, ref, signal);
  try {
    const packer = new ContentPacker(writer, knownChunks(table, planned.files), new Slices(signal));
    for (const file of planned.files) await packer.add(file);
    await packer.end();
    const inline = await writer.finish((base?.generation ?? 0) + 1);
    const entries: TableEntry[] = [...planned.directories, ...planned.links, ...packer.entries()];
    const set = entries.filter((entry) => {
      const before = table.get(entry.path);
      return before === undefined || !sameEntry(before, entry);
    });
    const { packs, storedMs } = writer;
    return { delta: { set, removed: planned.removed }, inline, packs, storedMs, entries };
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** Cuts content into chunks and packs those that are not known. */
class ContentPacker {
  readonly #writer: PackWriter;
  readonly #known: ReadonlyMap<string, Chunk>;
  readonly #frames: FrameBuilder;
  readonly #slices: Slices;
  readonly #slots: FrameSlot[] = [];
  readonly #packed: { readonly file: PlannedFile; readonly chunks: readonly PackedChunk[] }[] = [];

  constructor(writer: PackWriter, known: ReadonlyMap<string, Chunk>, slices: Slices) {
    this.#writer = writer;
    this.#known = known;
    this.#frames = new FrameBuilder(new Set(known.keys()));
    this.#slices = slices;
  }

  async add(file: PlannedFile): Promise<void> {
    const expected = contentSize(file.content);
    const chunks: PackedChunk[] = [];
    let filled = 0;
    for await (let part of openContent(textOfPath(file.path), file.content)) {
      while (part.length > 0) {
        if (filled === 0 && this.#frames.isFull) await this.#flush();
        const length = Math.min(CHUNK_BYTES, expected - chunks.length * CHUNK_BYTES);
        const taken = part.copy(this.#frames.space(length), filled);
        part = part.subarray(taken);
        filled += taken;
        if (filled < length) continue;
        chunks.push(this.#frames.add(length));
        filled = 0;
        if (this.#slices.due()) await this.#slices.next();
      }
    }
    this.#packed.push({ file, chunks });
  }

  async end(): Promise<void> {
    if (!this.#frames.isEmpty) await this.#flush();
  }

  /** The files in the table. Only once the writer has placed all frames. */
  *entries(): Generator<FileEntry> {
    for (const { file, chunks } of this.#packed) {
      const { path, content, mode, mtimeSeconds, mtimeNanoseconds } = file;
      yield {
        type: "file",
        path,
        mode,
        mtimeSeconds,
        mtimeNanoseconds,
        size: contentSize(content),
        chunks: chunks.map((chunk) => this.#placed(chunk)),
      };
    }
  }

  #placed({ hash, length, offset, frame: number }: PackedChunk): Chunk {
    if (number < 0) {
      const known = this.#known.get(hash);
      if (known === undefined) throw new Error("a chunk is said to be known and is not");
      return known;
    }
    const frame = this.#slots[number]?.frame;
    if (frame === undefined) throw new Error("a frame was never placed");
    return { hash, length, offset, frame };
  }

  async #flush(): Promise<void> {
    const { slot, wait } = this.#writer.add(this.#frames.take());
    this.#slots.push(slot);
    await wait;
  }
}

/** Chunks that need not be stored again: of the table that is built on, and of nothing else (see `knownChunks` of a mirror). */
function knownChunks(table: FileTable, files: readonly PlannedFile[]): Map<string, Chunk> {
  const bytes = files.reduce((sum, file) => sum + contentSize(file.content), 0);
  const known = new Map<string, Chunk>();
  for (const entry of bytes < DEDUPLICATE_FROM_BYTES
    ? files.map((file) => table.get(file.path))
    : table.entries()) {
    if (entry?.type === "file") for (const chunk of entry.chunks) known.set(chunk.hash, chunk);
  }
  return known;
}
