import { putContent } from "./backend/put-content.ts";
import { ObjectNotFoundError } from "./errors.ts";
import { isStoreName } from "./format/store-name.ts";
import { type SessionRef, turnLogKey, turnLogsPrefix } from "./keys.ts";
import { openObject, type StoredObject } from "./plain-objects.ts";
import type { StoreContext } from "./store-context.ts";

/** Of the inverse time that an id begins with, so that the newest comes first in a listing. */
const TIME_DIGITS = 15;
const TIME_MAX = 10 ** TIME_DIGITS - 1;

/** The log of an attempt at a turn, as a listing shows it. */
export interface TurnLog {
  /** What it is opened by. */
  readonly id: string;
  readonly turnId: string;
  /** When the attempt began, by its worker's clock. */
  readonly startedMs: number;
  readonly sizeBytes: number;
}

export interface TurnLogPage {
  /** Newest first. */
  readonly logs: readonly TurnLog[];
  /** Whether there are older ones. */
  readonly more: boolean;
}

/** Keeps the log of an attempt at a turn. Gives its id. */
export async function putTurnLog(
  context: StoreContext,
  ref: SessionRef,
  turn: { readonly turnId: string; readonly startedMs: number },
  content: Buffer,
  signal: AbortSignal | undefined,
): Promise<string> {
  const id = `${String(TIME_MAX - Math.floor(turn.startedMs)).padStart(TIME_DIGITS, "0")}-${turn.turnId}`;
  const options = { contentType: "application/x-ndjson", signal };
  await putContent(context.backend, turnLogKey(ref, id), content, context.random, options);
  return id;
}

/** @param options.after the id of the last one of the page before */
export async function listTurnLogs(
  context: StoreContext,
  ref: SessionRef,
  options: { readonly limit: number; readonly after?: string | undefined },
  signal: AbortSignal | undefined,
): Promise<TurnLogPage> {
  const prefix = turnLogsPrefix(ref);
  const { limit, after } = options;
  const startAfter = after === undefined ? {} : { startAfter: turnLogKey(ref, after) };
  const { objects, more } = await context.backend.list(prefix, { limit, ...startAfter, signal });
  const logs = objects.flatMap(({ key, sizeBytes }): TurnLog[] => {
    const id = key.slice(prefix.length);
    const [, inverse, turnId] = /^(\d{15})-(.+)$/.exec(id) ?? [];
    if (inverse === undefined || turnId === undefined) return [];
    return [{ id, turnId, startedMs: TIME_MAX - Number(inverse), sizeBytes }];
  });
  return { logs, more };
}

/** @throws ObjectNotFoundError */
export async function openTurnLog(
  context: StoreContext,
  ref: SessionRef,
  id: string,
  signal: AbortSignal | undefined,
): Promise<StoredObject> {
  if (!isStoreName(id)) throw new ObjectNotFoundError(turnLogsPrefix(ref));
  return await openObject(context.backend, turnLogKey(ref, id), { signal });
}
