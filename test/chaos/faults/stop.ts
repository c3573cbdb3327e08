import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { LEASE_MS } from "../chaos-fleet.ts";
import { meet, phaseNamed } from "../phases.ts";
import type { Seat } from "../seat.ts";
import type { Fault } from "./fault.ts";

/** Beyond the lease, and long enough for another worker to have begun. */
const STOPPED_MS = 2 * LEASE_MS;
/** The longest to wait for a phase, or for another worker to take a session over. */
const LIMIT_MS = 10_000;

/** SIGSTOP beyond the lease, then SIGCONT. */
export const stopWorker: Fault = async (fleet, number) => {
  const seat = fleet.workers[number % fleet.workers.length] as Seat;
  return await seat.alone(async () => {
    const over = fleet.begin("worker stopped beyond its lease", seat.name, ["worker-stopped"]);
    await stopped(seat, () => delay(STOPPED_MS));
    over();
    return true;
  });
};

export const stopDispatcher: Fault = async (fleet, number) => {
  const seat = fleet.dispatchers[number % fleet.dispatchers.length] as Seat;
  return await seat.alone(async () => {
    const over = fleet.begin("dispatcher stopped", seat.name, ["dispatcher-gone"]);
    await stopped(seat, () => delay(STOPPED_MS));
    over();
    return true;
  });
};

/** The event loop runs nothing for longer than the lease, while the process' other threads go on. */
export const blockEventLoop: Fault = async (fleet, number) => {
  const seat = fleet.workers[number % fleet.workers.length] as Seat;
  return await seat.alone(async () => {
    const debuggerUrl = await openDebugger(seat);
    if (debuggerUrl === undefined) return false;
    const over = fleet.begin("event loop blocked beyond the lease", seat.name, ["worker-stopped"]);
    const socket = new WebSocket(debuggerUrl);
    await once(socket, "open");
    const expression = `{ const until = Date.now() + ${STOPPED_MS}; while (Date.now() < until); }`;
    socket.send(JSON.stringify({ id: 1, method: "Runtime.evaluate", params: { expression } }));
    await Promise.race([once(socket, "message"), once(socket, "close"), delay(STOPPED_MS + LIMIT_MS)]);
    socket.close();
    over();
    return true;
  });
};

/**
 * A worker is stopped with its commit sent and not arrived; when another has begun to serve the session, the commit
 * arrives, and the worker goes on.
 */
export const delayCommit: Fault = async (fleet, number) => {
  const seat = fleet.workers[number % fleet.workers.length] as Seat;
  return await seat.alone(async () => {
    const held = Promise.withResolvers<{ readonly sessionId: string; readonly generation: number }>();
    const arrival = Promise.withResolvers<void>();
    // Of a turn: one that answers nothing may not be taken over at all.
    if ((await meet(seat, phaseNamed("mirroring"), LIMIT_MS)) === undefined) return false;
    seat.store.onRequest = (method, path) => {
      const match = /\/sessions\/([a-z2-7]{26})\/log\/(\d{15})$/.exec(path);
      if (method !== "PUT" || match === null) return undefined;
      seat.store.onRequest = () => undefined;
      held.resolve({ sessionId: match[1] as string, generation: 999_999_999_999_999 - Number(match[2]) });
      return arrival.promise;
    };
    try {
      const commit = await Promise.race([held.promise, delay(LIMIT_MS)]);
      if (commit === undefined) return false;
      const over = fleet.begin("commit delayed beyond the lease", seat.name, ["worker-stopped"]);
      const worker = String(seat.ready?.workerId);
      await stopped(seat, async () => {
        const isServed = await servedElsewhere(fleet.workers, seat, commit.sessionId);
        if (isServed) fleet.lateCommits.push({ ...commit, worker });
        arrival.resolve();
        // The answer has to be on its way before the worker goes on to read it.
        await delay(200);
      });
      over();
      return true;
    } finally {
      arrival.resolve();
      seat.store.onRequest = () => undefined;
    }
  });
};

async function stopped(seat: Seat, meanwhile: () => Promise<unknown>): Promise<void> {
  seat.process.signal("SIGSTOP");
  try {
    await meanwhile();
  } finally {
    seat.process.signal("SIGCONT");
  }
}

/** Whether another worker sends a prompt of the session within the limit. */
async function servedElsewhere(workers: readonly Seat[], seat: Seat, sessionId: string): Promise<boolean> {
  const ending = AbortSignal.timeout(LIMIT_MS);
  const others = workers.filter((other) => other !== seat);
  const prompted = others.map(async ({ process }) => {
    await process.line(
      (line) => line.msg === "prompt sent" && line.sessionId === sessionId,
      process.lines.length,
      ending,
    );
    return true;
  });
  return await Promise.any(prompted).catch(() => false);
}

/** Asks a process for its debugger; undefined where it does not say where that listens. */
async function openDebugger({ process }: Seat): Promise<string | undefined> {
  const find = () => /ws:\/\/127\.0\.0\.1:\d+\/[\w-]+/.exec(process.stderr)?.[0];
  process.signal("SIGUSR1");
  for (let waitedMs = 0; waitedMs < LIMIT_MS && find() === undefined; waitedMs += 50) await delay(50);
  return find();
}
