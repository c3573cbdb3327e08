import type { Fault } from "../faults/fault-proxy.ts";
import type { LogLine } from "../support/app-process.ts";
import type { Seat } from "./seat.ts";

/** Watches for a process to come to a point. */
interface Watch {
  readonly reached: Promise<unknown>;
  /** Watches no more. What was held stays held: it is the process' end that follows, or `release`. */
  readonly end: () => void;
  /** Lets what was held go on. */
  readonly release: () => void;
}

/** A point in the life of a message at which a process can be met. */
export interface Phase {
  readonly name: string;
  readonly app: "worker" | "dispatcher";
  readonly watch: (seat: Seat) => Watch;
}

function onLog(matches: (line: LogLine) => boolean): Phase["watch"] {
  return ({ process }) => {
    const ending = new AbortController();
    const end = () => ending.abort();
    const reached = process.line(matches, process.lines.length, ending.signal);
    return { reached, end, release: () => undefined };
  };
}

const onState = (state: string) => onLog((line) => line.msg === "activation" && line.state === state);

/** A request to Redis that names all of `present` and none of `absent`: by the keys of a script. */
function names(present: readonly string[], absent: readonly string[] = []) {
  return ({ from, bytes }: { readonly from: string; readonly bytes: Buffer }) =>
    from === "client" &&
    present.every((text) => bytes.includes(text)) &&
    !absent.some((text) => bytes.includes(text));
}

function onRedis(how: "request" | "answer", matches: ReturnType<typeof names>): Phase["watch"] {
  return ({ redis }) => {
    const hold = how === "request" ? redis.hold(matches) : redis.holdAnswer(matches);
    let isReached = false;
    const reached = hold.reached.then(() => {
      isReached = true;
    });
    // Once reached, releasing it is the caller's decision: what is held must not go on by itself.
    return { reached, end: () => (isReached ? undefined : hold.release()), release: hold.release };
  };
}

function onCommit(fault: Extract<Fault, "hang" | "hang-after">): Phase["watch"] {
  return ({ store }) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const end = () => {
      store.rule = () => undefined;
      store.onHang = () => undefined;
    };
    store.onHang = resolve;
    store.rule = (method, path) => {
      if (method !== "PUT" || !path.includes("/log/")) return undefined;
      store.rule = () => undefined;
      return fault;
    };
    return { reached: promise, end, release: () => undefined };
  };
}

const taking = names([":lease", ":session"], [":events", ":mailbox", ":outbox"]);
const publishing = names([":delivered", ":mailbox"]);
const releasing = names([":lease", ":mailbox"], [":events"]);
const accepting = names([":mailbox", ":message:", ":events"]);
const beginningDelivery = names([":outbox", ":sending"], [":delivered"]);
const recordingDelivery = names([":outbox", ":sending", ":delivered"]);

/**
 * Where a process is killed. Those of a worker's states are announced by its log; those at a request or an answer are
 * found on the wire, and nothing goes further there until the process is gone.
 */
export const phases: readonly Phase[] = [
  { name: "lease: answer lost", app: "worker", watch: onRedis("answer", taking) },
  { name: "hydrating", app: "worker", watch: onState("hydrating") },
  { name: "opening", app: "worker", watch: onState("opening") },
  { name: "prompting", app: "worker", watch: onLog(({ msg }) => msg === "prompt sent") },
  { name: "mirroring", app: "worker", watch: onState("mirroring") },
  { name: "commit: before it", app: "worker", watch: onCommit("hang") },
  { name: "commit: answer lost", app: "worker", watch: onCommit("hang-after") },
  { name: "publication: before it", app: "worker", watch: onRedis("request", publishing) },
  { name: "publication: answer lost", app: "worker", watch: onRedis("answer", publishing) },
  { name: "lingering", app: "worker", watch: onState("lingering") },
  { name: "ending", app: "worker", watch: onState("ending") },
  { name: "release: answer lost", app: "worker", watch: onRedis("answer", releasing) },
  {
    name: "draining",
    app: "worker",
    watch: (seat) => {
      const watch = onLog(({ msg }) => msg === "draining")(seat);
      seat.expectEnd();
      seat.process.signal("SIGTERM");
      return watch;
    },
  },
  { name: "accepted, not woken", app: "dispatcher", watch: onRedis("answer", accepting) },
  { name: "reply: about to be sent", app: "dispatcher", watch: onRedis("answer", beginningDelivery) },
  { name: "reply: sent, not recorded", app: "dispatcher", watch: onRedis("request", recordingDelivery) },
];

export function phaseNamed(name: string): Phase {
  const phase = phases.find((known) => known.name === name);
  if (phase === undefined) throw new Error(`no phase "${name}"`);
  return phase;
}

/** Waits until a process comes to a phase: false where it does not within `limitMs`, or ends before. */
export async function meet(
  seat: Seat,
  phase: Phase,
  limitMs: number,
): Promise<{ readonly release: () => void } | undefined> {
  const watch = phase.watch(seat);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, limitMs, false);
  });
  const reached = watch.reached.then(
    () => true,
    () => false,
  );
  const isMet = await Promise.race([reached, late]);
  clearTimeout(timer);
  watch.end();
  return isMet ? { release: watch.release } : undefined;
}
