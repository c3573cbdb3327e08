import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ChaosFleet, type ChaosSessions } from "./chaos-fleet.ts";
import { checkHistory } from "./checker/check-history.ts";
import type { Violation } from "./checker/violation.ts";
import { collectHistory } from "./collect-history.ts";
import { faultNamed } from "./faults/catalogue.ts";
import type { History } from "./history.ts";
import { settleLeftovers } from "./leftovers.ts";
import type { Lane } from "./plan.ts";
import { SeededRandom } from "./seeded-random.ts";

/** Traffic before the first fault, so that there is something to lose, in ms. */
const WARM_UP_MS = 1_500;
const FINISH_LIMIT_MS = 90_000;

export interface ChaosOptions {
  readonly seed: string;
  /** How long faults are begun, in ms; a run takes about a minute more. */
  readonly durationMs: number;
  readonly lanes: (random: SeededRandom) => readonly Lane[];
  readonly workers: number;
  readonly sessions: ChaosSessions;
  /** Whether one of the messages kills whatever process serves it. @default false */
  readonly hasDeadlyMessage?: boolean;
  /** Merged over the worker's settings. */
  readonly worker?: Readonly<Record<string, unknown>>;
  /** The longest that the fleet may need, once it is left alone, to answer what it was sent, in ms. @default 90000 */
  readonly finishLimitMs?: number;
  /** Told what happens, as lines for a person. */
  readonly report: (line: string) => void;
}

export interface ChaosResult {
  readonly seed: string;
  readonly minutes: number;
  readonly sessions: number;
  readonly messages: number;
  readonly answered: number;
  readonly dead: number;
  readonly generations: number;
  readonly replyCalls: number;
  /** What was done, by name. */
  readonly faults: Readonly<Record<string, number>>;
  /** What the plan wanted and did not come to pass: a phase that a process did not come to in time. */
  readonly missed: Readonly<Record<string, number>>;
  readonly violations: readonly Violation[];
  /** Where the logs of all processes are, where there are violations. */
  readonly evidence?: string;
}

/** One run: starts a fleet, talks to it, harms it, lets it come to rest, stops it, and reads the history. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { seed, report, durationMs } = options;
  const random = new SeededRandom(seed);
  const missed: Record<string, number> = {};
  const startedAt = Date.now();
  const {
    workers,
    sessions,
    worker = {},
    hasDeadlyMessage = false,
    finishLimitMs = FINISH_LIMIT_MS,
  } = options;
  await using fleet = await ChaosFleet.start({
    workers,
    dispatchers: 2,
    sessions,
    random,
    worker,
    hasDeadlyMessage,
  });
  report(`seed ${seed}: the fleet is up after ${Date.now() - startedAt} ms`);
  fleet.traffic.start();
  await delay(WARM_UP_MS);

  const over = AbortSignal.timeout(durationMs);
  const outcomes = await Promise.allSettled(
    options.lanes(random.fork("faults")).map((lane) => harm(fleet, lane, over, missed)),
  );
  report(`seed ${seed}: ${fleet.incidents.length} incidents, ${fleet.traffic.sent} messages; coming to rest`);
  const broken = outcomes.flatMap((outcome) =>
    outcome.status === "rejected" ? [String(outcome.reason)] : [],
  );
  const restsAt = Date.now();
  const unanswered = await fleet.traffic.finish(finishLimitMs);
  report(`seed ${seed}: at rest after ${Date.now() - restsAt} ms`);
  const unfinished = [
    ...broken,
    ...unanswered.map((id) => `message ${id} has no answer after ${finishLimitMs} ms`),
    ...(await stopAll(fleet)),
  ];
  const leftovers = await settleLeftovers(fleet.fleet.environment.LONGSHORE_RUN_DIR as string);
  for (const { remove } of leftovers) await remove().catch(() => undefined);
  const history = await collectHistory(fleet, { leftovers: leftovers.map(({ what }) => what), unfinished });
  const violations = checkHistory(history);
  const result = summarize(options, history, missed, violations, Date.now() - startedAt);
  return violations.length === 0 ? result : { ...result, evidence: await keepEvidence(history, result) };
}

/** Makes the faults of a lane, one after another, until the time is over. */
async function harm(
  fleet: ChaosFleet,
  lane: Lane,
  over: AbortSignal,
  missed: Record<string, number>,
): Promise<void> {
  for (const { kind, seat, pauseMs, seed } of lane) {
    await delay(pauseMs, undefined, { signal: over }).catch(() => undefined);
    if (over.aborted) return;
    if (!(await faultNamed(kind)(fleet, seat, new SeededRandom(seed))))
      missed[kind] = (missed[kind] ?? 0) + 1;
  }
}

/** SIGTERM to all; what does not obey it is reported. */
async function stopAll(fleet: ChaosFleet): Promise<string[]> {
  try {
    await fleet.stop();
    return [];
  } catch (error) {
    return [String(error)];
  }
}

function summarize(
  { seed }: ChaosOptions,
  { sessions, incidents }: History,
  missed: Readonly<Record<string, number>>,
  violations: readonly Violation[],
  tookMs: number,
): ChaosResult {
  const faults: Record<string, number> = {};
  for (const { kind } of incidents) faults[kind] = (faults[kind] ?? 0) + 1;
  const generations = sessions.flatMap((session) => session.generations);
  const ends = generations.flatMap(({ note }) => note.ends);
  return {
    seed,
    minutes: tookMs / 60_000,
    sessions: sessions.length,
    messages: sessions.reduce((sum, { messages }) => sum + messages.length, 0),
    answered: ends.filter(({ outcome }) => outcome === "answered").length,
    dead: ends.filter(({ outcome }) => outcome === "dead").length,
    generations: generations.length,
    replyCalls: sessions.reduce((sum, { calls }) => sum + calls.length, 0),
    faults,
    missed,
    violations,
  };
}

/** The logs of all processes, what was done to them and what each session came to, in a directory of its own. */
async function keepEvidence(history: History, result: ChaosResult): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "longshore-chaos-evidence-"));
  const { processes, sessions, ...rest } = history;
  for (const { name, lines, stderr } of processes) {
    await writeFile(
      join(directory, `${name}.log`),
      lines.map(({ line }) => `${JSON.stringify(line)}\n`).join(""),
    );
    if (stderr !== "") await writeFile(join(directory, `${name}.stderr`), stderr);
  }
  const content = (value: unknown) =>
    JSON.stringify(value, (_, inner) => (inner instanceof Map ? Object.fromEntries(inner) : inner), 1);
  for (const { generations, ...session } of sessions) {
    const told = generations.map(({ commit: { inline, delta, chain, ...commit }, counter, error }) => ({
      ...{ commit, counter, error },
    }));
    await writeFile(
      join(directory, `${session.conversation}.json`),
      content({ ...session, generations: told }),
    );
  }
  await writeFile(join(directory, "run.json"), content({ ...result, ...rest }));
  return directory;
}
