import { join } from "node:path";
import { tenantKeys } from "@longshore/shared";
import { Redis } from "ioredis";
import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";
import { sizeOfFiles } from "../../support/size-of-files.ts";

it("what workers and dispatchers store is counted, also when they end", async () => {
  await using fleet = await Fleet.start({
    agent: { linger: "0s", volumes: [{ name: "memory", target: "/session/workspace/memory" }] },
  });
  const dispatcher = await fleet.startDispatcher();
  await dispatcher.process.line(({ msg }) => msg === "garbage collected");
  const worker = await fleet.startWorker();
  const write = "$ head -c 300000 /dev/urandom > f; head -c 200000 /dev/urandom > memory/f";
  const attachments = [{ name: "a", data: Buffer.alloc(5_000, "a").toString("base64") }];
  expect(await dispatcher.api.ask("c", "1", write, { attachments })).toMatchObject({ state: "answered" });
  await Promise.all([worker.stop(), dispatcher.process.stop()]);
  const redis = new Redis(fleet.redis.url);
  const counted = Number(await redis.get(tenantKeys("acme").storedBytes));
  redis.disconnect();
  const tenant = join(fleet.directory, "store", "acme");
  const [sessions, volumes] = await Promise.all([
    sizeOfFiles(join(tenant, "sessions")),
    sizeOfFiles(join(tenant, "volumes")),
  ]);
  expect(counted).toBe(sessions + volumes);
  expect(counted).toBeGreaterThan(500_000);
});
