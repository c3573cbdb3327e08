import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess, LogLine } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { expectNoTraces, hostTraces } from "../../support/host-traces.ts";

const TOOK_WARM = "took a warm sandbox";
const IS_READY = "a warm sandbox is ready";

export const ready = (worker: AppProcess, count = 1) => nth(worker, IS_READY, count);

/** The line of that message, by its number from 1. */
async function nth(worker: AppProcess, msg: string, count: number): Promise<LogLine> {
  await worker.line(
    (line) => line.msg === msg && worker.lines.filter((each) => each.msg === msg).length >= count,
  );
  return worker.lines.filter((line) => line.msg === msg)[count - 1] as LogLine;
}

export const took = (worker: AppProcess) => worker.lines.filter(({ msg }) => msg === TOOK_WARM).length;

export async function textOf(
  api: Api,
  conversation: string,
  id: string,
  text: string,
): Promise<string | undefined> {
  const answer = await api.ask(conversation, id, text);
  expect(answer.state).toBe("answered");
  return answer.replies?.map((reply) => reply.text.trim()).join();
}

/** Of the last process that reports it. */
async function warmMetric(worker: AppProcess): Promise<string | undefined> {
  const { metricsUrl } = await worker.line(({ msg }) => msg === "worker ready");
  const text = await (await fetch(new URL("/metrics", metricsUrl as string))).text();
  return /^longshore_warm_sandboxes\{agent="shell"\} (.*)$/m.exec(text)?.[1];
}

const idOf = async (worker: AppProcess) =>
  (await worker.line(({ msg }) => msg === "worker ready")).workerId as string;

export function describeWarm(runtime: "docker" | "bwrap"): void {
  describe(`warm sandboxes, ${runtime}`, () => {
    it("serve a session with its files, each one session only", async () => {
      await using fleet = await Fleet.start({ runtime, agent: { warm: 1, linger: "0s" } });
      const [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
      await ready(worker);
      expect(await warmMetric(worker)).toBe("1");
      const write = "$ mkdir -p deep && echo kept > deep/f && echo left > ~/f && touch /tmp/mark && pwd";
      expect(await textOf(api, "one", "1", write)).toBe("/session/workspace");
      await ready(worker, 2);
      const read = "$ cat deep/f ~/f; ls -d /tmp/mark 2>&1 | grep -c cannot";
      expect(await textOf(api, "one", "2", read)).toBe("kept\nleft\n1");
      await ready(worker, 3);
      expect(
        await textOf(
          api,
          "two",
          "1",
          "$ find . ~ ../outbox /tmp/mark 2> /dev/null | grep -c -e deep -e mark -e /f; true",
        ),
      ).toBe("0");
      expect(took(worker)).toBe(3);
      // The places of those that were used are free again: what is left is the next one's.
      await ready(worker, 4);
      await expect
        .poll(async () => {
          const run = fleet.environment.LONGSHORE_RUN_DIR as string;
          const slots = await readdir(join(run, "workers", await idOf(worker), "slots"));
          const users = (await readdir(join(run, "users"))).filter((name) => !name.startsWith("."));
          return [slots.length, users.length];
        })
        .toEqual([1, 1]);
      const id = await idOf(worker);
      expect(await worker.stop()).toBe(0);
      await expectNoTraces(id, fleet.environment.LONGSHORE_RUN_DIR as string);
    });

    it("have their agent's session opened ahead: for one that is new, and for no other", async () => {
      await using fleet = await Fleet.start({ runtime, agent: { warm: 1, linger: "0s" } });
      const [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
      await ready(worker);
      // Each session of the agent's is a file of its own there.
      const first = await textOf(api, "one", "1", "$ ls ~/.agent-shell");
      await ready(worker, 2);
      expect(await textOf(api, "one", "2", "$ ls ~/.agent-shell")).toBe(first);
      expect(first).toMatch(/^\S+\.jsonl$/);
      const opened = worker.lines.filter(({ msg }) => msg === TOOK_WARM).map((line) => line.opened);
      expect(opened).toEqual([true, true]);
      // It goes on with its own one, which knows what was said.
      await ready(worker, 3);
      expect(await textOf(api, "one", "3", "$ grep -c agent-shell ~/.agent-shell/*.jsonl")).not.toBe("0");
    });

    it("that die while they wait are replaced", async () => {
      await using fleet = await Fleet.start({ runtime, agent: { warm: 1, linger: "0s" } });
      const [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
      await ready(worker);
      const traces = await hostTraces(await idOf(worker), fleet.environment.LONGSHORE_RUN_DIR as string);
      const agents = traces.flatMap(
        (trace) => /^process (\d+) .*\/opt\/agent\/main\.js/.exec(trace)?.[1] ?? [],
      );
      expect(agents).not.toEqual([]);
      for (const pid of agents) kill(Number(pid));
      await ready(worker, 2);
      expect(await textOf(api, "one", "1", "$ echo served")).toBe("served");
      expect(took(worker)).toBe(1);
    });

    it("are rebuilt when their agent's definition changes, and lingering ones are replaced", async () => {
      await using fleet = await Fleet.start({
        runtime,
        agent: { warm: 1, linger: "10m", env: { MARK: "old" } },
      });
      const [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
      await ready(worker);
      const write = "$ echo kept > f; echo $MARK";
      expect(await textOf(api, "one", "1", write)).toBe("old");
      await ready(worker, 2);
      await fleet.configure({ env: { MARK: "new" } });
      worker.signal("SIGHUP");
      await ready(worker, 3);
      expect(await textOf(api, "one", "2", "$ cat f; echo $MARK")).toBe("kept\nnew");
      expect(took(worker)).toBe(2);
    });

    it("are left alone by the reaper of another worker, until theirs is killed (I9)", async () => {
      await using fleet = await Fleet.start({ runtime, agent: { warm: 2 } });
      const victim = await fleet.startWorker();
      await ready(victim, 2);
      const [id, runDirectory] = [await idOf(victim), fleet.environment.LONGSHORE_RUN_DIR as string];
      const before = (await hostTraces(id, runDirectory)).toSorted();
      for (const kind of ["process", "slot"])
        expect(before.filter((trace) => trace.startsWith(kind))).not.toEqual([]);
      // A worker makes a pass before it says that it is ready to take turns; the second is made by the time.
      const survivor = await fleet.startWorker();
      await ready(survivor, 2);
      expect((await hostTraces(id, runDirectory)).toSorted()).toEqual(before);
      const survivors = (await hostTraces(await idOf(survivor), runDirectory)).toSorted();
      await victim.kill();
      await survivor.line(
        ({ msg, workers }) => msg === "removed what dead activations left" && workers === 1,
      );
      expect(await hostTraces(id, runDirectory)).toEqual([]);
      expect((await hostTraces(await idOf(survivor), runDirectory)).toSorted()).toEqual(survivors);
    });
  });
}

/** One may have ended with another one of the same sandbox. */
function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
