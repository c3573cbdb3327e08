import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

/** Sessions that are answered before counting, and between the counts. */
const ROUND = 6;

/**
 * A place, a directory descriptor, a socket that an activation kept would be one each; a pool of connections
 * or a thread that came late is at most this many.
 */
const SLACK = ROUND - 2;

it("an activation that is over leaves no descriptor, user or slot on the worker", {
  timeout: 120_000,
}, async () => {
  await using fleet = await Fleet.start({ agent: { linger: "0s" } });
  const { api } = await fleet.startDispatcher();
  const worker = await fleet.startWorker();
  const answerRound = async (name: string) => {
    const seen = worker.lines.length;
    for (let index = 0; index < ROUND; index++) {
      const answer = await api.ask(`${name}${index}`, "1", "$ echo done > file; echo done");
      expect(answer.state).toBe("answered");
    }
    // The last activation is over when its sandbox and slot are gone.
    for (let ended = 0, at = seen; ended < ROUND; ended++) {
      await worker.line(({ msg, state }) => msg === "activation" && state === "ending", at);
      at = worker.lines.findIndex(({ state }, index) => index >= at && state === "ending") + 1;
    }
  };
  const run = fleet.environment.LONGSHORE_RUN_DIR as string;
  const left = async () => {
    const [id] = await readdir(join(run, "workers"));
    return {
      descriptors: (await readdir(`/proc/${worker.pid}/fd`)).length,
      slots: (await readdir(join(run, "workers", id as string, "slots"))).length,
      users: (await readdir(join(run, "users"))).filter((name) => !name.startsWith(".")).length,
    };
  };
  await answerRound("first");
  const before = await left();
  await answerRound("second");
  // The last one may still be cleaning up after itself, and idle connections close after a while.
  await expect.poll(async () => (await left()).descriptors).toBeLessThanOrEqual(before.descriptors + SLACK);
  const after = await left();
  expect(after.slots).toBeLessThanOrEqual(1);
  expect(after.users).toBeLessThanOrEqual(1);
});
