import { createHash } from "node:crypto";
import type { SeededRandom } from "./seeded-random.ts";

/**
 * What a message makes its agent do.
 *
 * - `count`: adds one to the counter in the session directory, and says how far it is
 * - `slow`: the same, and takes a while
 * - `blob`: the same, and leaves a new file that is too large to travel in a commit record
 * - `file`: the same, once it has seen that the file that came with it is whole
 * - `later`: the same, not before a time
 * - `halt`: the same, after a sleep in which its turn is cancelled
 * - `context`: says that it was told, in the turn of another message: it wakes nobody
 * - `crash`, `error`, `memory`: poison; the agent dies, refuses or is ended for its memory, each time
 * - `deadly`: poison; the process that sends it as a prompt is killed, each time
 * - `oversized`: nothing; it is longer than its agent takes, and is to be refused
 */
export type MessageKind =
  | "count"
  | "slow"
  | "blob"
  | "file"
  | "later"
  | "halt"
  | "context"
  | "crash"
  | "error"
  | "memory"
  | "deadly"
  | "oversized";

export interface PlannedMessage {
  /** As its sender chose it. */
  readonly id: string;
  readonly kind: MessageKind;
  readonly text: string;
  /** By HTTP, or as a job of the queue `inbound`. */
  readonly way: "http" | "inbound";
  /** Sent twice at once, by HTTP through whichever dispatchers are up. */
  readonly isTwice: boolean;
  /** How long its sender waits before it, in ms. */
  readonly pauseMs: number;
  /** How long it is not to be answered, in ms after it is sent first. @default 0 */
  readonly laterMs?: number;
  /** What comes with it. @default nothing */
  readonly attachment?: Buffer;
}

const poisons: readonly MessageKind[] = ["crash", "error", "memory", "deadly"];
/** The volume that sessions share, and where they see it. */
export const VOLUME = { name: "memory", target: "/session/workspace/memory" } as const;
const VOLUME_COUNTER = "memory/counter";
const BLOB_BYTES = 300_000;
const ATTACHMENT_MAX_BYTES = 400_000;
/** Beyond what an agent takes unless it is told else. */
const OVERSIZED_BYTES = 256 * 1024 + 1;
const LATER_MAX_MS = 3_000;
/** Of a thousand messages, so many are of a kind; the others count. */
const SHARES: readonly (readonly [MessageKind, number])[] = [
  ["memory", 4],
  ["crash", 4],
  ["error", 4],
  ["oversized", 5],
  ["blob", 120],
  ["slow", 130],
  ["file", 60],
  ["later", 40],
  ["halt", 15],
  ["context", 60],
];
/** Parts of a thousand. */
const TWICE = 100;
const INBOUND = 120;
/** Every so many messages a session rests, so that its activation ends. */
const REST_EVERY = 6;

export function isPoison(kind: MessageKind): boolean {
  return poisons.includes(kind);
}

/** Whether its turn, answered, adds one to the counter. */
export function counts(kind: MessageKind): boolean {
  return !isPoison(kind) && kind !== "context" && kind !== "oversized";
}

/**
 * The messages of a session, without an end.
 *
 * @param options.deadlyAt the number of one that is deadly: there are few, since each takes its time. @default none
 * @param options.hasVolume whether what counts counts in a volume that sessions share, too
 * @param options.refuses whether its agent refuses what comes while it is at work: jobs lose their order by that
 */
export function* planMessages(
  random: SeededRandom,
  conversation: string,
  {
    deadlyAt,
    hasVolume,
    refuses,
  }: { readonly deadlyAt?: number | undefined; readonly hasVolume: boolean; readonly refuses: boolean },
): Generator<PlannedMessage> {
  for (let at = 0; ; at++) {
    const id = `${conversation}-${at}`;
    const picked = pickKind(random.integer(0, 999));
    const kind = at === deadlyAt ? "deadly" : picked;
    const isTwice = random.integer(0, 999) < TWICE;
    const isInbound = random.integer(0, 999) < INBOUND;
    const rests = random.integer(1, REST_EVERY) === 1;
    const pauseMs = rests ? random.integer(300, 3_000) : random.integer(0, 150);
    const laterMs = random.integer(1, LATER_MAX_MS);
    const attachment = Buffer.alloc(random.integer(1, ATTACHMENT_MAX_BYTES), `${id} `);
    yield {
      ...{ id, kind, isTwice, pauseMs },
      text: textOf(id, kind, { hasVolume, ...(kind === "file" ? { attachment } : {}) }),
      // Of a job there is no answer: neither a refusal, nor that the next message comes after it.
      way: isInbound && !refuses && kind !== "oversized" && kind !== "context" ? "inbound" : "http",
      ...(kind === "later" ? { laterMs } : {}),
      ...(kind === "file" ? { attachment } : {}),
    };
  }
}

/** One that counts, on top of the plan. */
export function planExtra(id: string, hasVolume: boolean): PlannedMessage {
  return {
    id,
    kind: "count",
    text: textOf(id, "count", { hasVolume }),
    way: "http",
    isTwice: false,
    pauseMs: 0,
  };
}

function pickKind(number: number): MessageKind {
  let below = 0;
  for (const [kind, share] of SHARES) {
    below += share;
    if (number < below) return kind;
  }
  return "count";
}

function textOf(
  id: string,
  kind: MessageKind,
  { attachment, hasVolume }: { readonly attachment?: Buffer; readonly hasVolume: boolean },
): string {
  // Long enough for whoever is to kill its worker.
  if (kind === "deadly") return "$ sleep 30";
  if (isPoison(kind)) return `!${kind}`;
  if (kind === "oversized") return "x".repeat(OVERSIZED_BYTES);
  if (kind === "context") return `$ echo told ${id}`;
  const sum = attachment === undefined ? "" : createHash("sha256").update(attachment).digest("hex");
  // Replaced, never written over: a command that is ended in the middle leaves the file as it was.
  const next = (file: string) => `$(($(cat ${file} 2>/dev/null || echo 0) + 1))`;
  const replace = (file: string, writing: string) => `${writing} > ${file}.new; mv ${file}.new ${file}`;
  return [
    ...(kind === "halt" ? ["$ sleep 5"] : ["$ :"]),
    ...(kind === "file"
      ? [
          `[ "$(cat ../inbox/*/${nameOfAttachment(id)} | sha256sum)" = "${sum}  -" ] || echo no file for ${id}`,
        ]
      : []),
    ...(hasVolume ? [`v=${next(VOLUME_COUNTER)}`] : []),
    `n=${next("counter")}`,
    // One after the other, with nothing between: a turn is cancelled before both or after them.
    [...(hasVolume ? [replace(VOLUME_COUNTER, "echo $v")] : []), replace("counter", "echo $n")].join("; "),
    ...(kind === "blob" ? [replace("blob", `head -c ${BLOB_BYTES} /dev/urandom`)] : []),
    ...(kind === "slow" ? ["sleep 0.4"] : []),
    `echo turn $n of ${id} with $(cat blob 2>/dev/null | cksum)`,
  ].join("; ");
}

export function nameOfAttachment(id: string): string {
  return `${id}.bin`;
}

/** A line of what the agent said of its turn; undefined for any other text. */
export function parseAnswer(
  line: string,
): { readonly turn: number; readonly id: string; readonly blob: string } | undefined {
  const match = /^turn (\d+) of (\S+) with (\d+ \d+)$/.exec(line);
  return match === null
    ? undefined
    : { turn: Number(match[1]), id: match[2] as string, blob: match[3] as string };
}

/** Which message's context a line of an answer says was told; undefined for any other line. */
export function parseTold(line: string): string | undefined {
  return /^told (\S+)$/.exec(line)?.[1];
}
