import { type BytePath, bytesOfPath, type FileTable, type TableEntry } from "@longshore/session-store";
import { z } from "zod";
import { fileViewSchema, viewFile } from "./file-view.ts";

/** What is different of an entry that two generations have. */
const differences = ["type", "content", "mode", "target", "time"] as const;
type Difference = (typeof differences)[number];

export const changeViewSchema = z.object({
  path: z.string(),
  pathBase64: z.string().optional(),
  change: z.enum(["added", "removed", "changed"]),
  /** Of what is changed: what of it. */
  what: z.array(z.enum(differences)).optional(),
  before: fileViewSchema.optional(),
  after: fileViewSchema.optional(),
});
export type ChangeView = z.output<typeof changeViewSchema>;

export interface DiffPage {
  readonly changes: readonly ChangeView[];
  /** Of all changes, on whatever page. */
  readonly total: number;
  /** For the page after this one; undefined on the last. */
  readonly cursor: string | undefined;
}

/**
 * What makes one generation's files another's, in the order of the paths' bytes. That a directory was written to, which
 * changes its time, is no change of its own here.
 *
 * @param before undefined: nothing, so that all is added
 */
export function diffTables(
  before: FileTable | undefined,
  after: FileTable,
  { cursor, limit }: { readonly cursor: BytePath; readonly limit: number },
): DiffPage {
  const { set, removed } = before?.differenceTo(after) ?? { set: [...after.entries()], removed: [] };
  const changed = new Map<BytePath, Difference[]>();
  for (const entry of set) {
    const old = before?.get(entry.path);
    const what = old === undefined ? [] : differencesOf(old, entry);
    const onlyTime = what.length === 1 && what[0] === "time";
    if (entry.type !== "directory" || !onlyTime) changed.set(entry.path, what);
  }
  for (const path of removed) changed.set(path, []);
  const paths = [...changed.keys()].filter((path) => path > cursor).sort();
  const page = paths.slice(0, limit);
  const last = page.at(-1);
  return {
    changes: page.map((path) => viewChange(before?.get(path), after.get(path), changed.get(path) ?? [])),
    total: changed.size,
    cursor: paths.length > limit && last !== undefined ? bytesOfPath(last).toString("base64url") : undefined,
  };
}

function differencesOf(old: TableEntry, entry: TableEntry): Difference[] {
  if (old.type !== entry.type) return ["type"];
  const found: Difference[] = [];
  if (old.type === "file" && entry.type === "file" && contentOf(old) !== contentOf(entry))
    found.push("content");
  if (old.mode !== entry.mode) found.push("mode");
  if (old.type === "link" && entry.type === "link" && old.target !== entry.target) found.push("target");
  const sameTime =
    old.mtimeSeconds === entry.mtimeSeconds &&
    Math.floor(old.mtimeNanoseconds / 1_000) === Math.floor(entry.mtimeNanoseconds / 1_000);
  if (!sameTime) found.push("time");
  return found;
}

function contentOf({ size, chunks }: Extract<TableEntry, { type: "file" }>): string {
  return `${size} ${chunks.map(({ hash }) => hash).join("")}`;
}

function viewChange(
  old: TableEntry | undefined,
  entry: TableEntry | undefined,
  what: readonly Difference[],
): ChangeView {
  const before = old === undefined ? undefined : viewFile(old);
  const after = entry === undefined ? undefined : viewFile(entry);
  const { path = "", pathBase64 } = after ?? before ?? {};
  return {
    path,
    ...(pathBase64 === undefined ? {} : { pathBase64 }),
    change: before === undefined ? "added" : after === undefined ? "removed" : "changed",
    ...(before === undefined || after === undefined ? {} : { what: [...what] }),
    ...(before === undefined ? {} : { before }),
    ...(after === undefined ? {} : { after }),
  };
}
