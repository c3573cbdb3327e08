import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CommitMeta, SessionRef, SessionStore, WorkingCopy } from "@longshore/session-store";
import { type ProcessFigures, runMeasured } from "../measured-process.ts";
import type { BenchServer } from "./bench-server.ts";

/** The commits of a benchmark. */
export const benchCommit: CommitMeta = { epoch: 1, nonce: "bench", worker: "bench", kind: "turn", note: {} };

export function benchSession(sessionId: string): SessionRef {
  return { tenant: "bench", sessionId };
}

/** What a worker does after a turn. Gives the milliseconds. */
export async function timeCommit(copy: WorkingCopy): Promise<number> {
  const start = performance.now();
  await copy.commit(await copy.mirror(), benchCommit);
  return performance.now() - start;
}

export interface TimedRestore {
  readonly milliseconds: number;
  readonly copy: WorkingCopy;
}

/** What a worker does before a turn of a session that is new to it. @param directory does not exist */
export async function timeHydrate(
  store: SessionStore,
  ref: SessionRef,
  directory: string,
): Promise<TimedRestore> {
  mkdirSync(directory);
  const start = performance.now();
  const copy = await store.hydrate(ref, await store.readNewest(ref), directory);
  return { milliseconds: performance.now() - start, copy };
}

/** One piece of work for a process of its own, by `session-process.ts`. */
export interface SessionWork {
  readonly what: "commit" | "restore";
  readonly sessionId: string;
  /** That of the session; a commit wants it empty, a restore makes it. */
  readonly directory: string;
  /** What is moved into it before it is committed. */
  readonly from?: string;
  /** A tree that is committed and restored before. @default nothing was done before */
  readonly warmUpWith?: string;
  /** Of the benchmark's place in the store. */
  readonly prefix: string;
}

export interface SessionProcessFigures extends ProcessFigures {
  /** Of the work alone, without the start of Node.js. */
  readonly workMilliseconds: number;
}

/** Does one piece of work in a process that does nothing else, with its compiled code at hand. */
export async function runSessionProcess(
  server: BenchServer,
  work: Omit<SessionWork, "prefix">,
): Promise<SessionProcessFigures> {
  const program = fileURLToPath(new URL("session-process.ts", import.meta.url));
  const given: SessionWork = { ...work, prefix: server.prefix };
  // As in the images.
  const environment = {
    ...process.env,
    NODE_COMPILE_CACHE: join(dirname(work.directory), "compiled"),
    MALLOC_ARENA_MAX: "2",
  };
  const figures = await runMeasured([process.execPath, program, JSON.stringify(given)], environment);
  return { ...figures, workMilliseconds: Number(figures.output) };
}
