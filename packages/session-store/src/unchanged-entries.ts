import type { DirectoryDescriptor } from "@longshore/shared";
import type { BytePath } from "./format/byte-path.ts";
import type { FileTable } from "./format/file-table.ts";
import type { TableEntry } from "./format/table-entry.ts";
import type { StoreContext } from "./store-context.ts";
import { type FileToPack, type PackedFile, type PackedFrame, packFiles } from "./tree/pack-files.ts";
import type { ScannedEntry } from "./tree/scan.ts";

/** Up to this much is read on the main thread: handing it to another one takes longer. */
const SMALL_BYTES = 512 * 1024;

/**
 * Finds the paths among changed ones that are what a table says all the same: those of which only the time was doubtful
 * (the racily-clean rule), mostly. To read a file that is there is cheaper than to fetch and write it again.
 */
export async function findUnchanged(
  context: StoreContext,
  root: DirectoryDescriptor,
  changed: readonly ScannedEntry[],
  table: FileTable,
  signal: AbortSignal | undefined,
): Promise<Set<BytePath>> {
  const unchanged = new Set<BytePath>();
  const files: FileToPack[] = [];
  const hashes: string[] = [];
  let bytes = 0;
  for (const scanned of changed) {
    const entry = table.get(scanned.path);
    if (entry === undefined || !seemsSame(scanned, entry)) continue;
    if (entry.type === "file") {
      files.push({
        path: entry.path,
        start: 0,
        end: entry.size,
        size: entry.size,
        ctimeMs: scanned.record.ctimeMs,
      });
      hashes.push(...entry.chunks.map((chunk) => chunk.hash));
      bytes += entry.size;
    } else unchanged.add(entry.path);
  }
  const take = (item: PackedFile | PackedFrame): undefined => {
    if (item.kind !== "file" || item.disturbed || item.chunks === undefined) return;
    const entry = table.get(item.path);
    if (entry?.type !== "file" || entry.chunks.length !== item.chunks.length) return;
    if (item.chunks.every((chunk, index) => chunk.hash === entry.chunks[index]?.hash))
      unchanged.add(item.path);
  };
  if (bytes <= SMALL_BYTES) for (const item of packFiles(root, files, new Set(hashes))) take(item);
  else await context.threads.pack(root.fd, files, Buffer.from(hashes.join(""), "latin1"), take, signal);
  return unchanged;
}

/** Whether all that a look at the path shows is what the table says. */
function seemsSame(scanned: ScannedEntry, entry: TableEntry): boolean {
  return (
    scanned.type === entry.type &&
    // All bits of it: a set-id bit is in no table, and must not be left by a restore.
    (entry.type === "link" || (scanned.record.mode & 0o7777) === entry.mode) &&
    scanned.mtimeSeconds === entry.mtimeSeconds &&
    Math.floor(scanned.mtimeNanoseconds / 1000) === Math.floor(entry.mtimeNanoseconds / 1000) &&
    (entry.type !== "file" || scanned.size === entry.size) &&
    (entry.type !== "link" || scanned.target === entry.target)
  );
}
