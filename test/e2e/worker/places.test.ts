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

it.each([
  ["so many turns", { turns: 2, time: "1h" }],
  ["so long", { turns: 1_000, time: "1s" }],
])(
  "a session that was served for %s gives its place to one that waits, and goes on in its turn",
  async (_, quantum) => {
    await using fleet = await Fleet.start({ agent: { linger: "0s" }, worker: { places: 1, quantum } });
    const [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    const answered: string[] = [];
    const ask = async (conversation: string, id: string, text: string) => {
      expect(await api.ask(conversation, id, text)).toMatchObject({ state: "answered" });
      answered.push(`${conversation} ${id}`);
    };
    const first = ask("busy", "0", "$ sleep 1");
    await worker.line(({ msg }) => msg === "prompt sent");
    const others = Array.from({ length: 9 }, async (_, at) => await ask("busy", `${at + 1}`, "$ sleep 1"));
    await Promise.all([first, ask("waiting", "0", "$ true"), ...others]);
    expect(answered.at(-1)).not.toBe("waiting 0");
  },
);
