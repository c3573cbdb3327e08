import { expect, it } from "vitest";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";
import { hostTraces } from "../../support/host-traces.ts";

/** More sessions than it takes until both workers have some of both kinds. */
const SESSIONS_MAX = 100;

interface Held {
  readonly conversation: string;
  readonly agent: string;
}

it("what a killed worker leaves on its host is removed by another one, whose own is not touched (I9)", async () => {
  const runtimes = ["bwrap", "docker"] as const;
  await using fleet = await Fleet.start({
    agent: { linger: "10m" },
    agents: Object.fromEntries(runtimes.map((runtime) => [runtime, { runtime }])),
    worker: { places: SESSIONS_MAX },
  });
  const runDirectory = fleet.environment.LONGSHORE_RUN_DIR as string;
  const [{ api }, victim, survivor] = await Promise.all([
    fleet.startDispatcher(),
    fleet.startWorker(),
    fleet.startWorker(),
  ]);
  const held = new Map<AppProcess, Held[]>([
    [victim, []],
    [survivor, []],
  ]);
  const hasBoth = (sessions: Held[]) =>
    runtimes.every((runtime) => sessions.some(({ agent }) => agent === runtime));
  for (let at = 0; ![...held.values()].every(hasBoth) && at < SESSIONS_MAX; at++) {
    const one = { conversation: `c${at}`, agent: runtimes[at % 2] as string };
    const text = "$ echo mine > /tmp/mark; mkfifo pipe; sleep 1000 & echo started";
    const { sessionId } = await api.ask(one.conversation, "1", text, { agent: one.agent });
    for (const [worker, sessions] of held) {
      if (worker.lines.some((line) => line.msg === "turn answered" && line.sessionId === sessionId))
        sessions.push(one);
    }
  }
  const idOf = async (worker: AppProcess) =>
    (await worker.line(({ msg }) => msg === "worker ready")).workerId as string;
  const [victimId, survivorId] = [await idOf(victim), await idOf(survivor)];
  const before = await hostTraces(victimId, runDirectory);
  for (const kind of ["container", "process", "slot"])
    expect(before.filter((trace) => trace.startsWith(kind))).not.toEqual([]);
  const survivorsBefore = await hostTraces(survivorId, runDirectory);

  const seen = survivor.lines.length;
  await victim.kill();
  await survivor.line(
    ({ msg, workers }) => msg === "removed what dead activations left" && workers === 1,
    seen,
  );
  expect(await hostTraces(victimId, runDirectory)).toEqual([]);

  expect((await hostTraces(survivorId, runDirectory)).toSorted()).toEqual(survivorsBefore.toSorted());
  for (const { conversation, agent } of held.get(survivor) as Held[]) {
    const answered = await api.ask(conversation, "2", "$ cat /tmp/mark", { agent });
    expect(answered.replies?.map(({ text }) => text.trim())).toEqual(["mine"]);
  }
});
