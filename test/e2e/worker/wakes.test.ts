import { Queue } from "bullmq";
import { describe, expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

describe("wakes", () => {
  it("that are deleted from Redis are brought back by the sweeper", async () => {
    await using fleet = await Fleet.start();
    const { api } = await fleet.startDispatcher();
    const sent = await Promise.all(
      Array.from({ length: 10 }, (_, index) => api.send(`c${index}`, "1", "$ echo here")),
    );
    const { hostname, port } = new URL(fleet.redis.url);
    const turns = new Queue("turns", {
      connection: { host: hostname, port: Number(port) },
      prefix: "{longshore}",
    });
    await turns.obliterate({ force: true });
    await turns.close();
    await fleet.startWorker();
    for (const [index, { messageId }] of sent.entries()) {
      const message = await api.ask(`c${index}`, "1", "the same id again");
      expect(message).toMatchObject({ messageId, state: "answered", duplicate: true });
    }
  });
});
