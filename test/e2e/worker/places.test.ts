import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

it("a session that waits for a place is left to another worker as soon as one is free", async () => {
  await using fleet = await Fleet.start({ agent: { linger: "0s" }, worker: { places: 1 } });
  const [{ api }, busy] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  const long = await api.send("long", "1", "$ sleep 60; echo long");
  await busy.line(({ msg }) => msg === "prompt sent");
  const waiting = await api.send("waiting", "1", "$ echo quick");
  // The busy worker has it by now, one job beyond its places; the other one begins only then.
  await busy.line(({ msg, sessionId }) => msg === "waits for a place" && sessionId === waiting.sessionId);
  const free = await fleet.startWorker();
  expect((await api.ask("waiting", "1", "known")).replies?.[0]?.text.trim()).toBe("quick");
  expect(free.lines.filter(({ msg }) => msg === "turn answered")).toHaveLength(1);
  expect(await api.message(long.messageId)).toMatchObject({ state: "running" });
  await api.json("POST", `/v1/sessions/${long.sessionId}/cancel`, {});
});
