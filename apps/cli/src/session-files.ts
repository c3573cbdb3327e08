import { isSessionId } from "@longshore/shared";
import type { ApiClient } from "./api-client.ts";
import { type FileAnswer, filePageSchema } from "./api-schemas.ts";
import { ApiProtocolError, UsageError } from "./errors.ts";

const PAGE = 10_000;
/** The most files that are listed: the bound of an agent's `limits.files`. */
const FILES_MAX = 100_000_000;

/** All files of one generation; those of the newest where none is named, also when newer ones come meanwhile. */
export interface GenerationFiles {
  readonly generation: number;
  readonly files: readonly FileAnswer[];
}

export async function readFiles(
  client: ApiClient,
  sessionId: string,
  wanted: number | undefined,
  signal: AbortSignal,
): Promise<GenerationFiles> {
  const base = sessionPath(sessionId);
  const files: FileAnswer[] = [];
  let generation = wanted;
  let cursor: string | undefined;
  do {
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (generation !== undefined) query.set("generation", String(generation));
    if (cursor !== undefined) query.set("cursor", cursor);
    const page = await client.get(`${base}/files?${query}`, filePageSchema, { signal });
    if (page.generation === 0) return { generation: 0, files: [] };
    generation = page.generation;
    for (const file of page.files) files.push(file);
    if (files.length > FILES_MAX) throw new ApiProtocolError("a list of files without an end");
    cursor = page.cursor;
  } while (cursor !== undefined);
  return { generation: generation ?? 0, files };
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
