import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { requireProgram } from "./debian-packages.ts";
import { onFreePorts } from "./free-port.ts";
import { launch } from "./launch.ts";
import { answersPing, type PrivateServiceOptions, type Redis, startRedisServer } from "./redis.ts";
import { run } from "./run-command.ts";
import { ServiceProcess } from "./service.ts";
import { waitUntil } from "./wait-until.ts";

const FORM_TIMEOUT_MS = 30_000;
/** How long a server may be silent before the others replace it, in ms. */
const FAILOVER_MS = 1_000;
/** A primary waits five seconds for more replicas to come, by default. */
const SYNC_AT_ONCE = ["--repl-diskless-sync-delay", "0"];
const PRIMARIES = 3;
const SENTINELS = 3;
const SENTINEL_NAME = "fleet";

/** Redis servers that replace each other. */
export interface RedisGroup extends AsyncDisposable {
  /** The `REDIS_URL` of all of them. */
  readonly url: string;
  /** The servers that hold data, those that are the first primaries first. */
  readonly servers: readonly Redis[];
}

/** A Redis Cluster on loopback: three primaries with a replica each. */
export async function startRedisCluster(options: PrivateServiceOptions): Promise<RedisGroup> {
  return await onFreePorts(4 * PRIMARIES, async (...ports) => {
    await using started = new AsyncDisposableStack();
    // The bus has ports of its own: what is usual, 10,000 above, may be no port.
    const pairs = ports.slice(0, 2 * PRIMARIES).map((port, at) => [port, ports[2 * PRIMARIES + at]] as const);
    const servers: Redis[] = [];
    for (const [port, bus] of pairs) {
      const server = await startRedisServer({
        ...{ ...options, port, directory: join(options.directory, String(port)) },
        settings: [
          ...["--cluster-enabled", "yes", "--cluster-port", String(bus)],
          ...["--cluster-node-timeout", String(FAILOVER_MS)],
          ...SYNC_AT_ONCE,
        ],
      });
      servers.push(started.use(server));
    }
    const nodes = pairs.map(([port, bus]) => `127.0.0.1:${port}@${bus}`);
    const cli = requireProgram("redis-cli");
    await run([cli, "--cluster", "create", ...nodes, "--cluster-replicas", "1", "--cluster-yes"], options);
    const ask = (...command: string[]) => run([cli, "-p", String(pairs[0]?.[0]), ...command], options);
    await waitUntil(
      async () =>
        (await ask("cluster", "info")).includes("cluster_state:ok") &&
        (await ask("cluster", "nodes")).split("slave").length === PRIMARIES + 1,
      { what: "the cluster to form", timeoutMs: FORM_TIMEOUT_MS, signal: options.signal },
    );
    for (const [port] of pairs.slice(0, PRIMARIES)) await followed(port, options);
    return group(`redis+cluster://${pairs.map(([port]) => `127.0.0.1:${port}`).join(",")}`, servers, started);
  });
}

/** A primary and its replica on loopback, and three sentinels that replace one by the other. */
export async function startRedisSentinels(options: PrivateServiceOptions): Promise<RedisGroup> {
  return await onFreePorts(2 + SENTINELS, async (...ports) => {
    await using started = new AsyncDisposableStack();
    const [primary = 0, replica = 0, ...sentinels] = ports;
    const servers: Redis[] = [];
    for (const port of [primary, replica]) {
      const server = await startRedisServer({
        ...{ ...options, port, directory: join(options.directory, String(port)) },
        settings: [
          ...SYNC_AT_ONCE,
          ...(port === replica ? ["--replicaof", "127.0.0.1", String(primary)] : []),
        ],
      });
      servers.push(started.use(server));
    }
    await followed(primary, options);
    const cli = requireProgram("redis-cli");
    for (const port of sentinels) {
      const directory = join(options.directory, String(port));
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const configuration = join(directory, "sentinel.conf");
      // A sentinel writes what it learns into its configuration.
      await writeFile(
        configuration,
        [
          ...[`port ${port}`, "bind 127.0.0.1", `dir ${directory}`],
          `sentinel monitor ${SENTINEL_NAME} 127.0.0.1 ${primary} ${Math.ceil((SENTINELS + 1) / 2)}`,
          `sentinel down-after-milliseconds ${SENTINEL_NAME} ${FAILOVER_MS}`,
          `sentinel failover-timeout ${SENTINEL_NAME} ${10 * FAILOVER_MS}`,
        ].join("\n"),
      );
      const sentinel = await ServiceProcess.start(() =>
        launch({
          name: "redis-sentinel",
          command: [requireProgram("redis-server"), configuration, "--sentinel"],
          logFile: join(directory, "sentinel.log"),
          answers: () => answersPing(port),
          startTimeoutMs: FORM_TIMEOUT_MS,
          signal: options.signal,
        }),
      );
      started.defer(() => sentinel.stop());
    }
    await Promise.all(
      sentinels.map((port) =>
        waitUntil(
          async () => {
            const known = await run([cli, "-p", String(port), "sentinel", "master", SENTINEL_NAME]);
            return known.includes(`num-other-sentinels\n${SENTINELS - 1}`) && known.includes("num-slaves\n1");
          },
          { what: "the sentinels to know each other", timeoutMs: FORM_TIMEOUT_MS, signal: options.signal },
        ),
      ),
    );
    const hosts = sentinels.map((port) => `127.0.0.1:${port}`).join(",");
    return group(`redis+sentinel://${hosts}/${SENTINEL_NAME}`, servers, started);
  });
}

/**
 * Waits until a primary's replica has its data: before that it replaces nobody. (Seen: a cluster that lost a primary
 * right after it had formed stayed down for ever.)
 */
async function followed(port: number, options: PrivateServiceOptions): Promise<void> {
  const command = [requireProgram("redis-cli"), "-p", String(port), "info", "replication"];
  await waitUntil(async () => (await run(command, options)).includes("state=online"), {
    what: `the replica of ${port} to follow`,
    timeoutMs: FORM_TIMEOUT_MS,
    signal: options.signal,
  });
}

function group(url: string, servers: readonly Redis[], started: AsyncDisposableStack): RedisGroup {
  const all = started.move();
  return { url, servers, [Symbol.asyncDispose]: () => all.disposeAsync() };
}
