import { describe, expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

/** Answers when its turn began and ended, in ns. */
const TAKES_A_WHILE = "$ from=$(date +%s%N); sleep 0.3; echo $from $(date +%s%N)";

describe("limits of a fleet", () => {
  it("let so many turns of a tenant run at once, over workers, also when one of them is killed", async () => {
    await using fleet = await Fleet.start({
      limits: { runningTurns: 1 },
      agent: { linger: "30s", limits: { turn: "8s" }, retry: { attempts: 1 } },
    });
    const { api } = await fleet.startDispatcher();
    const first = await fleet.startWorker();
    await api.send("long", "1", "$ sleep 600");
    await first.line(({ msg }) => msg === "prompt sent");
    await fleet.startWorker();
    const sessions = Array.from({ length: 6 }, (_, index) => `c${index}`);
    const asked = Promise.all(sessions.map((session) => api.ask(session, "1", TAKES_A_WHILE)));
    // They wait for the one turn, which ends with its worker; whoever is called then ends, and calls the next.
    await first.kill();
    const turns = (await asked)
      .map(({ replies }) => (replies?.[0]?.text ?? "").trim().split(" ").map(BigInt) as [bigint, bigint])
      .sort(([a], [b]) => (a < b ? -1 : 1));
    expect(turns).toHaveLength(sessions.length);
    for (const [index, [from]] of turns.slice(1).entries())
      expect(from > (turns[index] as [bigint, bigint])[1]).toBe(true);
  });

  it("give each user so many messages a day, and the next one up after its wait", async () => {
    await using fleet = await Fleet.start({ agent: { perUser: { running: 1, perDay: 2, wait: "1s" } } });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    // The client sends all as one user.
    expect(await api.ask("a", "1", "$ echo 1")).toMatchObject({ state: "answered" });
    expect(await api.ask("b", "1", "$ echo 2")).toMatchObject({ state: "answered" });
    expect(await api.ask("a", "2", "$ echo 3")).toMatchObject({
      state: "dead",
      error: { code: "USER_QUOTA_EXCEEDED" },
    });
  });
});
