import { createHash } from "node:crypto";
import type { FileEntry } from "@longshore/session-store";

/** A strong entity tag of a file's content: the same for the same bytes, wherever and whenever they are. */
export function entityTagOf({ size, chunks }: FileEntry): string {
  const hash = createHash("sha256").update(`${size}\n`);
  for (const chunk of chunks) hash.update(chunk.hash, "latin1");
  return `"${hash.digest("base64url")}"`;
}

/** Whether `If-None-Match` names the tag; weak tags match by their value (RFC 9110, section 13.1.2). */
export function isNamed(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === "*") return true;
  const named: readonly string[] = header.match(/"[^"]*"/g) ?? [];
  return named.includes(tag);
}
