import { isSessionId, sessionPathOfApi } from "@longshore/shared";
import type { ApiClient } from "./api-client.ts";
import { type FileAnswer, type FilePage, filePageSchema } from "./api-schemas.ts";
import { ApiProtocolError, UsageError } from "./errors.ts";

const PAGE = 10_000;
/** The most files that are listed: the bound of an agent's `limits.files`. */
const FILES_MAX = 100_000_000;

/** All files of one generation; those of the newest where none is named, also when newer ones come meanwhile. */
export interface GenerationFiles {
  readonly generation: number;
  readonly files: readonly FileAnswer[];
  /** What the agent sees among them and is no part of the session. */
  readonly external?: FilePage["external"];
}

export async function readFiles(
  client: ApiClient,
  sessionId: string,
  wanted: number | undefined,
  signal: AbortSignal,
  under?: string,
): Promise<GenerationFiles> {
  const base = sessionPath(sessionId);
  const files: FileAnswer[] = [];
  let external: FilePage["external"];
  let generation = wanted;
  let cursor: string | undefined;
  do {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (generation !== undefined) query.set("generation", String(generation));
    if (cursor !== undefined) query.set("cursor", cursor);
    if (under !== undefined) query.set("under", under);
    const page = await client.get(`${base}/files?${query}`, filePageSchema, { signal });
    if (page.generation === 0) return { generation: 0, files: [] };
    generation = page.generation;
    external ??= page.external;
    for (const file of page.files) files.push(file);
    if (files.length > FILES_MAX) throw new ApiProtocolError("a list of files without an end");
    cursor = page.cursor;
  } while (cursor !== undefined);
  return { generation: generation ?? 0, files, ...(external === undefined ? {} : { external }) };
}

/** A directory of a session that a local one stands for; the session directory itself for the root. */
export class SessionPart {
  readonly #prefix: Buffer;
  /** As the API takes it; undefined for the root. */
  readonly under: string | undefined;

  /** @param given from the session directory. @throws UnsafePathError */
  constructor(given: string | undefined) {
    this.under = given === undefined ? undefined : sessionPathOfApi(given);
    this.#prefix = Buffer.from(this.under === undefined ? "" : `${this.under}/`);
  }

  /** The path in the session of one below the local directory. */
  full(path: Buffer): Buffer {
    return Buffer.concat([this.#prefix, path]);
  }

  /** The path below the local directory of one in the session; undefined for what is not in this part. */
  below(path: Buffer): Buffer | undefined {
    const inside =
      path.length > this.#prefix.length && path.subarray(0, this.#prefix.length).equals(this.#prefix);
    return inside ? path.subarray(this.#prefix.length) : undefined;
  }
}

/** A file of a session by its path below the local directory that stands for a part of it. */
export interface PartEntry {
  readonly path: Buffer;
  readonly file: FileAnswer;
}

/** The entries of a part of a session. */
export function entriesOf(files: readonly FileAnswer[], part: SessionPart): PartEntry[] {
  return files.flatMap((file) => {
    const path = part.below(bytesOf(file.path, file.pathBase64));
    return path === undefined ? [] : [{ path, file }];
  });
}

/** The API's path of a session. @throws UsageError for what is no session id, before it gets into an address */
export function sessionPath(sessionId: string): string {
  if (!isSessionId(sessionId)) throw new UsageError(`${JSON.stringify(sessionId)} is no session id`);
  return `/sessions/${sessionId}`;
}

/** The API's path of a file's content, by the bytes of its own: names may hold anything but `/` and NUL. */
export function contentPath(sessionId: string, path: Buffer, generation: number | undefined): string {
  const query = new URLSearchParams({ encoding: "base64url" });
  if (generation !== undefined) query.set("generation", String(generation));
  return `${sessionPath(sessionId)}/files/${path.toString("base64url")}?${query}`;
}

export function bytesOf(text: string, base64: string | undefined): Buffer {
  return base64 === undefined ? Buffer.from(text) : Buffer.from(base64, "base64url");
}
