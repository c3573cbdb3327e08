import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { leftovers } from "../conformance/sandbox/leftovers.ts";
import type { Api } from "../support/api.ts";
import type { AppProcess } from "../support/app-process.ts";
import { Fleet } from "../support/fleet.ts";

/** Only in `npm run test:soak`: it takes minutes. */
const TURNS = Number(process.env.LONGSHORE_SOAK_TURNS ?? 0);
const FIRST = 100;
/** As many sessions take turns at once. */
const SESSIONS = 4;
/** Of the heap that it had after the first hundred: what it keeps up to a bound was not full yet. */
const HEAP_GROWTH_MAX = 1.15;
const TELL_HEAP = new URL("tell-heap.cjs", import.meta.url).pathname;

describe.skipIf(TURNS === 0).each(["bwrap", "docker"] as const)(
  "a worker, after turn upon turn, each in a sandbox of its own, %s",
  (runtime) => {
    it(
      "has what it had after the first hundred: descriptors, children, mounts, sockets, files, cgroups, containers, heap",
      async () => {
        await using fleet = await Fleet.start({ runtime, agent: { linger: "0s" } });
        const { api } = await fleet.startDispatcher();
        const worker = await fleet.startWorker({ NODE_OPTIONS: `--expose-gc --require ${TELL_HEAP}` });
        await turns(api, 0, FIRST);
        const before = await quiet(fleet, worker);
        const heap = await heapBytes(worker);
        await turns(api, FIRST, TURNS);
        await expect.poll(() => held(fleet, worker)).toEqual(before);
        const growth = (await heapBytes(worker)) / heap;
        console.log(
          `${runtime}: ${JSON.stringify(before)}, heap × ${growth.toFixed(2)} after ${TURNS} turns`,
        );
        expect(growth).toBeLessThan(HEAP_GROWTH_MAX);
        expect(fleet.failures).toEqual([]);
      },
      TURNS * 5_000,
    );
  },
);

/** Turns from one number up to another, each of which finds what the last one of its session left. */
async function turns(api: Api, from: number, to: number): Promise<void> {
  const session = async (first: number) => {
    for (let turn = first; turn < to; turn += SESSIONS) {
      const count = Math.floor(turn / SESSIONS) + 1;
      const { replies } = await api.ask(`c${turn % SESSIONS}`, `${turn}`, "$ echo >> lines; wc -l < lines");
      expect(replies?.[0]?.text.trim()).toBe(`${count}`);
    }
  };
  await Promise.all(Array.from({ length: SESSIONS }, (_, index) => session(from + index)));
}

/** What it holds once nothing of it changes any more. */
async function quiet(fleet: Fleet, worker: AppProcess): Promise<object> {
  let last: object = {};
  await expect
    .poll(
      async () => {
        const previous = last;
        last = await held(fleet, worker);
        return JSON.stringify(previous) === JSON.stringify(last);
      },
      { timeout: 30_000, interval: 1_000 },
    )
    .toBe(true);
  return last;
}

async function held(fleet: Fleet, { pid }: AppProcess): Promise<object> {
  const runDirectory = fleet.environment.LONGSHORE_RUN_DIR as string;
  const linesOf = async (path: string) =>
    (await readFile(path, "utf8")).split("\n").filter((line) => line.includes(fleet.directory)).length;
  const [workerId = ""] = await readdir(join(runDirectory, "workers"));
  return {
    descriptors: (await readdir(`/proc/${pid}/fd`)).length,
    children: (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).split(" ").filter(Boolean).length,
    mounts: await linesOf(`/proc/${pid}/mountinfo`),
    sockets: await linesOf("/proc/net/unix"),
    // What sessions were restored from is kept up to a bound of its own.
    files: (await readdir(runDirectory, { recursive: true })).filter(
      (path) => !path.startsWith("chunk-cache/"),
    ).length,
    left: await leftovers({ runDirectory }, workerId),
  };
}

/** Without garbage. What of the process is resident says little: Node.js keeps what it once had. */
async function heapBytes(worker: AppProcess): Promise<number> {
  const since = worker.lines.length;
  worker.signal("SIGUSR2");
  const { heapUsed } = await worker.line(({ msg }) => msg === "heap", since);
  return heapUsed as number;
}
