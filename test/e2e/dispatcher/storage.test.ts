import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { QUEUE_PREFIX, queueNames, tenantKeys } from "@longshore/shared";
import { Queue } from "bullmq";
import { expect, it } from "vitest";
import { sizeOfFiles } from "../../support/size-of-files.ts";
import { call, message, until } from "./client.ts";
import { DispatcherStack, keys } from "./dispatcher-stack.ts";

const LIMIT = 1024 * 1024;

it("what a tenant may store bounds it, by what the last collection found and what came since", async () => {
  await using stack = await DispatcherStack.start({ limits: { storedBytes: "1MiB" }, mailbox: 1_000 });
  const { redis } = stack.worker;
  const { storedBytes } = tenantKeys("acme");
  const first = await stack.dispatcher();
  await first.process.line(({ msg }) => msg === "garbage collected");
  const send = (id: string, bytes = 48 * 1024) => {
    const data = randomBytes(bytes).toString("base64");
    const attachments = bytes === 0 ? [] : [{ name: "a", data }];
    return call(`${first.url}/v1/messages`, { body: message(id, { attachments }) });
  };
  const { body } = await send("0");
  await stack.worker.answer(body.sessionId, { files: { "workspace/a": "x" } });

  // What was stored just before a collection would be counted twice until the next one.
  await until(
    async () => Number(await redis.get(storedBytes)),
    (bytes) => bytes >= 48 * 1024,
  );
  let sent = 0;
  // Someone counted what is not there.
  await redis.incrby(storedBytes, LIMIT);
  const refused = await until(
    () => send(`early-${sent++}`, 0),
    ({ status }) => status !== 202,
  );
  expect(refused).toMatchObject({ status: 507, body: { code: "STORAGE_FULL" } });
  await redis.del("longshore:{fleet}:collected");
  const second = await stack.dispatcher();
  await second.process.line(({ msg }) => msg === "garbage collected");
  const needed = Number(await redis.get(storedBytes));
  const noted = (await sizeOfFiles(join(stack.directory, "store", "acme"))) - needed;
  // What the collection noted itself came after.
  expect(noted).toBeGreaterThanOrEqual(0);
  expect(noted).toBeLessThan(1_000);
  expect(needed).toBeGreaterThan(48 * 1024);

  await until(
    () => send(String(++sent), 0),
    ({ status }) => status === 202,
  );
  const early = sent;
  await until(
    () => send(String(++sent)),
    ({ status }) => status === 507,
  );
  const refusedAfter = sent - early;
  const stored = await sizeOfFiles(join(stack.directory, "store", "acme"));
  await until(
    async () => Number(await redis.get(storedBytes)),
    (bytes) => bytes === stored,
  );
  expect(refusedAfter).toBeGreaterThan(LIMIT / (48 * 1024) - 2);
  const metrics = await until(
    async () => await (await fetch(`${first.metricsUrl}/metrics`)).text(),
    (text) => text.includes(`longshore_stored_bytes{tenant="acme"} ${stored}`),
  );
  expect(metrics).toContain('longshore_refusals_total{tenant="acme",code="STORAGE_FULL"}');

  // What was accepted gets its answer again, other tenants pass, and nothing is taken in by another way.
  expect(await send("0")).toMatchObject({ status: 202, body: { duplicate: true } });
  const other = { body: message("1", { agent: "stranger" }), key: keys.other };
  expect(await call(`${first.url}/v1/messages`, other)).toMatchObject({ status: 202 });
  const put = { method: "PUT", raw: "x" };
  expect(await call(`${first.url}/v1/sessions/${body.sessionId}/files/workspace/b`, put)).toMatchObject({
    status: 507,
    body: { code: "STORAGE_FULL" },
  });
  const inbound = new Queue(queueNames.inbound, { connection: redis, prefix: QUEUE_PREFIX });
  const { id = "" } = await inbound.add("m", { ...message("by-queue"), tenant: "acme" });
  const failed = await until(
    () => inbound.getJob(id),
    (job) => job?.failedReason !== undefined,
  );
  expect(failed?.failedReason).toContain("STORAGE_FULL");
  await inbound.close();
});
