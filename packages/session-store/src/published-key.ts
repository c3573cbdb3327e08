import { isUtf8 } from "node:buffer";
import { type BytePath, bytesOfPath } from "./format/byte-path.ts";
import { directoryPrefix, type SessionRef } from "./keys.ts";

/** Longest key of S3 without a backend's own prefix, for which this leaves room, and longest name of a file, in bytes. */
const KEY_BYTES_MAX = 900;
const PART_BYTES_MAX = 255;

/** What not every store takes as part of a key, and the sign that stands for it. */
const UNFIT = /[%\p{Cc}\u{fffe}\u{ffff}]/gu;

/** The prefix of the files that a session's `publish` patterns name. @throws BadStoreNameError */
export function publishedPrefix(ref: SessionRef): string {
  directoryPrefix(ref);
  return `${ref.tenant}/published/${ref.sessionId}/`;
}

/**
 * The key of a published file: its path as it is, but for what a key or a `file://` store can't hold, which is
 * percent-encoded (control characters, a dot at the beginning of a part, `%` itself, all but ASCII in a name that is not
 * UTF-8).
 *
 * @returns undefined where it would be too long
 */
export function publishedKey(ref: SessionRef, path: BytePath): string | undefined {
  const parts = path.split("/").map(keyPart);
  const key = `${publishedPrefix(ref)}${parts.join("/")}`;
  if (Buffer.byteLength(key) > KEY_BYTES_MAX) return undefined;
  return parts.some((part) => Buffer.byteLength(part) > PART_BYTES_MAX) ? undefined : key;
}

function keyPart(name: BytePath): string {
  const bytes = bytesOfPath(name);
  if (!isUtf8(bytes)) return [...bytes].map(encodedByte).join("");
  return bytes
    .toString("utf8")
    .replace(UNFIT, (char) => encodeURIComponent(char))
    .replace(/^\./, "%2E");
}

function encodedByte(byte: number): string {
  const char = String.fromCharCode(byte);
  return /[A-Za-z0-9_ -]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
}
