import { isUtf8 } from "node:buffer";
import {
  type BytePath,
  bytesOfPath,
  type FileTable,
  type TableEntry,
  textOfPath,
} from "@longshore/session-store";
import { z } from "zod";

export const fileViewSchema = z.object({
  /** From the session directory; bytes that are not UTF-8 are shown as U+FFFD. */
  path: z.string(),
  /** The path's bytes, where `path` can't show them. */
  pathBase64: z.string().optional(),
  type: z.enum(["file", "directory", "link"]),
  /** Permission bits. */
  mode: z.int(),
  modifiedAt: z.string(),
  sizeBytes: z.int().optional(),
  /** Where a link points. */
  target: z.string().optional(),
  targetBase64: z.string().optional(),
});
export type FileView = z.output<typeof fileViewSchema>;

function textOf(path: BytePath): { readonly text: string; readonly base64: string | undefined } {
  const bytes = bytesOfPath(path);
  return { text: textOfPath(path), base64: isUtf8(bytes) ? undefined : bytes.toString("base64url") };
}

export function viewFile(entry: TableEntry): FileView {
  const path = textOf(entry.path);
  const target = entry.type === "link" ? textOf(entry.target) : undefined;
  return {
    path: path.text,
    ...(path.base64 === undefined ? {} : { pathBase64: path.base64 }),
    type: entry.type,
    mode: entry.mode,
    modifiedAt: new Date(entry.mtimeSeconds * 1_000 + Math.floor(entry.mtimeNanoseconds / 1e6)).toISOString(),
    ...(entry.type === "file" ? { sizeBytes: entry.size } : {}),
    ...(target === undefined ? {} : { target: target.text }),
    ...(target?.base64 === undefined ? {} : { targetBase64: target.base64 }),
  };
}

export interface FilePage {
  readonly files: readonly FileView[];
  /** For the page after this one; undefined on the last. */
  readonly cursor: string | undefined;
}

/** A page of a table's entries in the order of their paths' bytes, those in or below a directory. */
export function listFiles(
  table: FileTable,
  { under, after, limit }: { readonly under: BytePath; readonly after: BytePath; readonly limit: number },
): FilePage {
  const prefix = under === "" ? "" : `${under}/`;
  const found: TableEntry[] = [];
  for (const entry of table.entries()) {
    if (entry.path > after && (entry.path.startsWith(prefix) || entry.path === under)) found.push(entry);
  }
  found.sort((a, b) => (a.path < b.path ? -1 : 1));
  const page = found.slice(0, limit);
  const last = page.at(-1);
  const more = found.length > limit && last !== undefined;
  return {
    files: page.map(viewFile),
    cursor: more ? bytesOfPath(last.path).toString("base64url") : undefined,
  };
}
