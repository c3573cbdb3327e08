import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { deriveSessionId, QUEUE_PREFIX, queueNames } from "@longshore/shared";
import { Queue } from "bullmq";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { message, until } from "./client.ts";
import { DispatcherStack } from "./dispatcher-stack.ts";

let stack: DispatcherStack;
let inbound: Queue;

beforeEach(async () => {
  stack = await DispatcherStack.start({ mailbox: 2_000 });
  inbound = new Queue(queueNames.inbound, { connection: stack.worker.redis, prefix: QUEUE_PREFIX });
});
afterEach(async () => {
  await inbound.close();
  await stack[Symbol.asyncDispose]();
});

/** Adds jobs by a script that imports nothing but BullMQ. */
async function produce(jobs: readonly unknown[]): Promise<void> {
  const script = fileURLToPath(new URL("raw-producer.mjs", import.meta.url));
  const child = spawn(process.execPath, [script], {
    env: { ...process.env, REDIS_URL: stack.redis.url },
    stdio: ["pipe", "inherit", "inherit"],
  });
  child.stdin.end(JSON.stringify(jobs));
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`the producer ended with ${code}`);
}

const job = (id: string, more: Readonly<Record<string, unknown>> = {}) => ({
  ...message(id, more),
  tenant: "acme",
});
const session = (conversation: string) =>
  deriveSessionId("shared", { tenant: "acme", agent: "helper", channel: "http", conversation });
const texts = async (conversation: string) =>
  (await stack.worker.state.readMailbox(session(conversation), 2_000)).map(({ text }) => text);

describe("a plain BullMQ producer", () => {
  it("gets its message accepted, and told so by the job", async () => {
    await stack.dispatcher();
    await produce([job("1", { conversation: "raw", attachments: [{ name: "a", data: "aGk=" }] })]);
    const [done] = await until(
      () => inbound.getJobs(["completed"]),
      (jobs) => jobs.length === 1,
    );
    expect(done?.returnvalue).toMatchObject({ sessionId: session("raw"), duplicate: false });
    expect(await stack.worker.state.readMailbox(session("raw"), 10)).toMatchObject([
      { text: "hello", attachments: [{ name: "a", sizeBytes: 2 }] },
    ]);
  });

  it("sees what can never be accepted as failed at once, with the code, whatever its attempts", async () => {
    await stack.dispatcher();
    await inbound.addBulk([
      { name: "m", data: { nonsense: true }, opts: { attempts: 5 } },
      { name: "m", data: job("1", { agent: "nobody" }), opts: { attempts: 5 } },
      { name: "m", data: { ...job("2"), tenant: "nobody" }, opts: { attempts: 5 } },
      { name: "m", data: job("3", { text: "x".repeat(2_000) }), opts: { attempts: 5 } },
      { name: "m", data: job("4", { conversation: "good" }) },
    ]);
    await until(
      () => inbound.getJobCounts("completed", "failed"),
      ({ completed, failed }) => completed === 1 && failed === 4,
    );
    const failed = await inbound.getJobs(["failed"], 0, 10, true);
    expect(
      failed.map(({ failedReason, attemptsMade }) => [failedReason.split(":")[0], attemptsMade]),
    ).toEqual([
      ["INVALID_MESSAGE", 1],
      ["UNKNOWN_AGENT", 1],
      ["UNKNOWN_TENANT", 1],
      ["MESSAGE_TOO_LARGE", 1],
    ]);
    expect(await texts("good")).toEqual(["hello"]);
  });

  it("keeps its order with two dispatchers, one of which is killed in between (I1)", async () => {
    const first = await stack.dispatcher();
    await stack.dispatcher();
    const count = 300;
    const jobs = Array.from({ length: count }, (_, index) =>
      job(String(index), { conversation: `order-${index % 3}`, text: String(index) }),
    );
    const produced = produce(jobs);
    await until(
      () => inbound.getJobCounts("completed"),
      ({ completed }) => (completed ?? 0) > 50,
    );
    await first.process.kill();
    await produced;
    await until(
      () => inbound.getJobCounts("completed", "failed"),
      ({ completed, failed }) => (completed ?? 0) + (failed ?? 0) === count,
    );
    for (const remainder of [0, 1, 2]) {
      const expected = Array.from({ length: count / 3 }, (_, index) => String(index * 3 + remainder));
      expect(await texts(`order-${remainder}`)).toEqual(expected);
    }
  });
});

it("does not lose a message with attempts 1 when the store fails, nor let the next one overtake it", async () => {
  // A link to itself in place of a directory: every put fails until it is mended.
  const root = join(stack.directory, "store");
  const dispatcher = await stack.dispatcher();
  await rm(join(root, "acme"), { recursive: true, force: true });
  await mkdir(root, { recursive: true });
  await symlink("acme", join(root, "acme"));
  await produce([
    job("1", { conversation: "store", text: "first", attachments: [{ name: "a", data: "aGk=" }] }),
    job("2", { conversation: "store", text: "second" }),
  ]);
  await dispatcher.process.line(({ msg }) => msg === "inbound job is tried again");
  expect(await inbound.getJobCounts("active", "waiting", "failed")).toEqual({
    active: 1,
    waiting: 1,
    failed: 0,
  });
  // A dispatcher that stops in the middle of it hands the job back to the front.
  expect(await dispatcher.process.stop()).toBe(0);
  expect(await inbound.getJobCounts("active", "waiting", "failed")).toEqual({
    active: 0,
    waiting: 2,
    failed: 0,
  });
  await rm(join(root, "acme"));
  await stack.dispatcher();
  await until(
    () => inbound.getJobCounts("completed"),
    ({ completed }) => completed === 2,
  );
  expect(await texts("store")).toEqual(["first", "second"]);
  expect(await readdir(join(root, "acme"), { recursive: true })).toContainEqual(
    expect.stringContaining("inbound/"),
  );
});
