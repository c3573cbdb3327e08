// Holds private services until it is interrupted: what services.test.ts kills in several ways.
import { once } from "node:events";
import { join } from "node:path";
import type { CommandContext } from "../../infra/setup/command.ts";
import { runCommandLine } from "../../infra/setup/command-line.ts";
import { startDocker } from "../../infra/setup/docker-engine.ts";
import { startObjectStore } from "../../infra/setup/object-store.ts";
import { startRedis } from "../../infra/setup/redis.ts";
import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";

async function hold({ signal }: CommandContext): Promise<number> {
  await using scratch = await ScratchDirectory.create();
  const at = (name: string) => ({ directory: join(scratch.path, name), signal });
  await using redis = await startRedis(at("redis"));
  await using store = await startObjectStore(at("s3"));
  await using engine = await startDocker(at("docker"));
  process.send?.({
    directory: scratch.path,
    redisUrl: redis.url,
    storeUrl: store.endpoint,
    engineUrl: engine.url,
    enginePid: engine.pid,
  });
  await once(signal, "abort");
  throw signal.reason;
}

process.exitCode = await runCommandLine(new Map([["hold", async () => hold]]), ["hold"]);
