import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

/** A program that knows nothing of Longshore but a queue's name and prefix: what anybody may write. */
const PRODUCER = `
import { Queue, QueueEvents } from "bullmq";

const { hostname, port } = new URL(process.env.REDIS_URL);
const options = { connection: { host: hostname, port: Number(port) }, prefix: "{longshore}" };
const inbound = new Queue("inbound", options);
const events = new QueueEvents("inbound", options);
await events.waitUntilReady();
const jobs = [];
for (const id of ["1", "2", "1"]) {
  jobs.push(await inbound.add("message", {
    tenant: "acme",
    id,
    agent: "shell",
    channel: "http",
    conversation: "c",
    sender: { id: "ada" },
    text: "$ echo " + id + " >> turns; cat turns ../inbox/*/note.txt",
    attachments: [{ name: "note.txt", data: Buffer.from("note " + id + "\\n").toString("base64") }],
  }));
}
console.log(JSON.stringify(await Promise.all(jobs.map((job) => job.waitUntilFinished(events)))));
await events.close();
await inbound.close();
`;

it("answers messages that a plain BullMQ producer adds to the queue inbound", async () => {
  await using fleet = await Fleet.start();
  const [{ api }] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--input-type=module", "--eval", PRODUCER],
    { cwd: fileURLToPath(new URL("../../..", import.meta.url)), env: { REDIS_URL: fleet.redis.url } },
  );
  const [first, second, again] = JSON.parse(stdout) as { messageId: string; duplicate: boolean }[];
  expect(again).toMatchObject({ messageId: first?.messageId, duplicate: true });

  const answers = [await api.ask("c", "1", "known already"), await api.ask("c", "2", "known already")];
  expect(answers.map(({ messageId }) => messageId)).toEqual([first?.messageId, second?.messageId]);
  expect(answers.map(({ state }) => state)).toEqual(["answered", "answered"]);
  const texts = answers.map(({ replies }) => replies?.map(({ text }) => text.trim()));
  expect(texts[0]).toEqual(["1\nnote 1"]);
  expect(texts[1]?.[0]?.split("\n").toSorted()).toEqual(["1", "2", "note 1", "note 2"]);
});
