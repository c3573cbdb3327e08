import mime from "mime";
import type { Backend } from "./backend/backend.ts";
import { forEachBounded } from "./bounded.ts";
import { readFileContent } from "./chunk-stream.ts";
import { type BytePath, nameOfPath, textOfPath } from "./format/byte-path.ts";
import type { Commit } from "./format/commit.ts";
import type { FileTable } from "./format/file-table.ts";
import { type FileEntry, sameContent } from "./format/table-entry.ts";
import type { SessionRef } from "./keys.ts";
import { publishedKey, publishedPrefix } from "./published-key.ts";
import type { StoreContext } from "./store-context.ts";
import { compilePatterns, type PathPredicate } from "./tree/exclusions.ts";

/** Files that are put at once; each has at most four chunks in memory. */
const PUTS_MAX = 4;

/** The most that one put may have, in bytes: S3's limit. */
const PUT_BYTES_MAX = 5 * 1024 ** 3;

/** Keys of one request to delete. */
const DELETES_MAX = 1000;

const LEFT_OUT_NAMED = 100;

/** What became of the files that `publish` patterns name. */
export interface PublishedFiles {
  readonly put: number;
  readonly deleted: number;
  /** Paths that no object can be made of: too long for a key, or above 5 GiB. At most a hundred are named. */
  readonly leftOut: readonly string[];
}

/**
 * Puts the files that patterns name as plain objects, and deletes those of files that are gone.
 *
 * Puts come before deletes, and all of it can be done again after a failure: objects are replaced by what they are to be.
 *
 * @param before the table whose files stand there, all of them, by the same patterns; undefined: nobody knows what stands
 *   there, so all are put and what is too much is found by listing
 */
export async function publishFiles(
  context: StoreContext,
  ref: SessionRef,
  before: FileTable | undefined,
  to: { readonly commit: Commit; readonly table: FileTable },
  patterns: readonly string[],
  signal: AbortSignal | undefined,
): Promise<PublishedFiles> {
  const isPublished = compilePatterns(patterns) ?? (() => false);
  const wanted = publishedEntries(to.table, isPublished);
  const leftOut: string[] = [];
  const keys = new Set<string>();
  const puts: { readonly key: string; readonly entry: FileEntry }[] = [];
  for (const entry of wanted) {
    const key = publishedKey(ref, entry.path);
    if (key === undefined || entry.size > PUT_BYTES_MAX) {
      if (leftOut.length < LEFT_OUT_NAMED) leftOut.push(textOfPath(entry.path));
      continue;
    }
    keys.add(key);
    const standing = before?.get(entry.path);
    if (standing?.type !== "file" || !sameContent(standing, entry)) puts.push({ key, entry });
  }
  await forEachBounded(puts, PUTS_MAX, async ({ key, entry }) => {
    const content = {
      sizeBytes: entry.size,
      open: () => readFileContent(context, ref, to.commit, entry, { start: 0, end: entry.size }, signal),
    };
    await context.backend.replace(key, content, { contentType: contentTypeOf(entry.path), signal });
  });
  const stale =
    before === undefined
      ? await listPublished(context.backend, ref, signal)
      : publishedEntries(before, isPublished).flatMap((entry) => publishedKey(ref, entry.path) ?? []);
  const deletes = stale.filter((key) => !keys.has(key));
  for (let at = 0; at < deletes.length; at += DELETES_MAX)
    await context.backend.delete(deletes.slice(at, at + DELETES_MAX), signal === undefined ? {} : { signal });
  return { put: puts.length, deleted: deletes.length, leftOut };
}

/** In the order of their paths, in which most of them share frames with the next one. */
function publishedEntries(table: FileTable, isPublished: PathPredicate): FileEntry[] {
  const entries: FileEntry[] = [];
  for (const entry of table.entries())
    if (entry.type === "file" && isPublished(entry.path)) entries.push(entry);
  return entries.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function listPublished(
  backend: Backend,
  ref: SessionRef,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const keys: string[] = [];
  for (let after: string | undefined; ; after = keys.at(-1)) {
    const listing = await backend.list(publishedPrefix(ref), {
      ...(after === undefined ? {} : { startAfter: after }),
      signal,
    });
    for (const object of listing.objects) keys.push(object.key);
    if (!listing.more) return keys;
  }
}

function contentTypeOf(path: BytePath): string {
  return mime.getType(textOfPath(nameOfPath(path))) ?? "application/octet-stream";
}
