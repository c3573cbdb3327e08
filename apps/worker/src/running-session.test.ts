import { expect, it } from "vitest";
import { RunningSession } from "./running-session.ts";

it("is resumed after a pause that nobody knows the end of, and paused again before anything is read", async () => {
  const calls: string[] = [];
  const sandbox = {
    pause: async () => {
      if (calls.push("pause") === 1) throw new Error("no answer");
    },
    resume: async () => void calls.push("resume"),
  };
  const options = { sandbox, slots: { isBounded: () => true }, use: { runtime: "docker" } };
  const running = new RunningSession(options as unknown as ConstructorParameters<typeof RunningSession>[0]);
  await expect(running.pause()).rejects.toThrow("no answer");
  await running.resume();
  await running.resume();
  await running.pause();
  expect(calls).toEqual(["pause", "resume", "pause"]);
});
