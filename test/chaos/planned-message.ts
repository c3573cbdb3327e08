import type { SeededRandom } from "./seeded-random.ts";

/**
 * What a message makes its agent do.
 *
 * - `count`: adds one to the counter in the session directory, and says how far it is
 * - `slow`: the same, and takes a while
 * - `blob`: the same, and leaves a new file that is too large to travel in a commit record
 * - `crash`, `error`, `memory`: poison; the agent dies, refuses or is ended for its memory, each time
 * - `deadly`: poison; the process that sends it as a prompt is killed, each time
 * - `oversized`: nothing; it is longer than its agent takes, and is to be refused
 */
export type MessageKind = "count" | "slow" | "blob" | "crash" | "error" | "memory" | "deadly" | "oversized";

export interface PlannedMessage {
  /** As its sender chose it. */
  readonly id: string;
  readonly kind: MessageKind;
  readonly text: string;
  /** Sent through both dispatchers at once. */
  readonly isTwice: boolean;
  /** How long its sender waits before it, in ms. */
  readonly pauseMs: number;
}

const poisons: readonly MessageKind[] = ["crash", "error", "memory", "deadly"];
const BLOB_BYTES = 300_000;
/** Beyond what an agent takes unless it is told else. */
const OVERSIZED_BYTES = 256 * 1024 + 1;
/** Parts of a thousand. */
const POISON = 12;
const MEMORY = 4;
const OVERSIZED = 5;
const BLOB = 120;
const SLOW = 150;
const TWICE = 100;
/** Every so many messages a session rests, so that its activation ends. */
const REST_EVERY = 6;

export function isPoison(kind: MessageKind): boolean {
  return poisons.includes(kind);
}

/**
 * The messages of a session, without an end.
 *
 * @param deadlyAt the number of one that is deadly: there are few, since each takes its time. @default none
 */
export function* planMessages(
  random: SeededRandom,
  conversation: string,
  deadlyAt?: number,
): Generator<PlannedMessage> {
  for (let at = 0; ; at++) {
    const id = `${conversation}-${at}`;
    const picked = pickKind(random.integer(0, 999));
    const kind = at === deadlyAt ? "deadly" : picked;
    const isTwice = random.integer(0, 999) < TWICE;
    const rests = random.integer(1, REST_EVERY) === 1;
    const pauseMs = rests ? random.integer(300, 3_000) : random.integer(0, 150);
    yield { id, kind, text: textOf(id, kind), isTwice, pauseMs };
  }
}

function pickKind(number: number): MessageKind {
  if (number < MEMORY) return "memory";
  if (number < POISON) return number % 2 === 0 ? "crash" : "error";
  if (number < POISON + OVERSIZED) return "oversized";
  if (number < POISON + OVERSIZED + BLOB) return "blob";
  if (number < POISON + OVERSIZED + BLOB + SLOW) return "slow";
  return "count";
}

export function textOf(id: string, kind: MessageKind): string {
  // Long enough for whoever is to kill its worker.
  if (kind === "deadly") return "$ sleep 30";
  if (isPoison(kind)) return `!${kind}`;
  if (kind === "oversized") return "x".repeat(OVERSIZED_BYTES);
  return [
    "$ n=$(($(cat counter 2>/dev/null || echo 0) + 1)); echo $n > counter",
    ...(kind === "blob" ? [`head -c ${BLOB_BYTES} /dev/urandom > blob`] : []),
    ...(kind === "slow" ? ["sleep 0.4"] : []),
    `echo turn $n of ${id} with $(cat blob 2>/dev/null | cksum)`,
  ].join("; ");
}

/** What the agent said of its turn; undefined for any other text. */
export function parseAnswer(
  text: string,
): { readonly turn: number; readonly id: string; readonly blob: string } | undefined {
  const match = /^turn (\d+) of (\S+) with (\d+ \d+)$/.exec(text.trim());
  return match === null
    ? undefined
    : { turn: Number(match[1]), id: match[2] as string, blob: match[3] as string };
}
