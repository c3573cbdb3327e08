// biome-ignore-all lint/style/noRestrictedImports: the run directory is made before any sandbox is

import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  BwrapRuntime,
  DockerRuntime,
  SandboxUsers,
  SlotDiskError,
  SlotDisks,
  Slots,
  StartBreaker,
  WorkerPresence,
} from "@longshore/sandbox";
import { openBackend, SessionStore } from "@longshore/session-store";
import {
  type AgentDefinition,
  ArtifactLinks,
  type Configuration,
  ConfigurationSource,
  connectRedis,
  createLogger,
  type Environment,
  environmentSecrets,
  executableAnyway,
  type Logger,
  longestActivationMs,
  Metrics,
  openReplyWakes,
  openTurnWakes,
  QUEUE_PREFIX,
  queueNames,
  type RedisClient,
  readEnvironment,
  routeMessage,
  ScheduleBook,
  Schedules,
  SessionState,
  StoredBytes,
  systemClock,
  TurnOrder,
  type TurnWakes,
  VolumeLeases,
} from "@longshore/shared";
import { Queue } from "bullmq";
import type { ActivationParts } from "./activation.ts";
import { resolveMounts } from "./mounts.ts";
import { Runtimes } from "./runtimes.ts";
import { SkillCache } from "./skill-cache.ts";

/** Where a Docker engine listens when nothing else is said. */
const DEFAULT_ENGINE = "unix:///var/run/docker.sock";
/** How long a command of Redis may take before it counts as failed, in ms. */
const REDIS_COMMAND_TIMEOUT_MS = 10_000;

/** What a worker process is made of, whatever it takes its sessions from. */
export interface WorkerParts extends AsyncDisposable {
  readonly environment: Environment;
  readonly source: ConfigurationSource;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Of this start of the process. */
  readonly workerId: string;
  readonly redis: RedisClient;
  /** Without a command time-out, for BullMQ. */
  readonly queueConnection: RedisClient;
  /** For channels that it subscribes to. */
  readonly subscriber: RedisClient;
  readonly onRedisError: (error: Error) => void;
  readonly runtimes: Runtimes;
  readonly agents: () => AgentDefinition[];
  readonly order: TurnOrder;
  readonly turnWakes: TurnWakes;
  /** For its activations. */
  readonly parts: Omit<ActivationParts, "takeWarm" | "mayLinger" | "onTurn" | "admit" | "onRest" | "isAlone">;
}

/** What of access policies nothing enforces; the rest of that kind is refused with the configuration. */
function tellOfAccess({ agents }: Configuration, log: Logger): void {
  for (const [agent, definition] of Object.entries(agents)) {
    const paths = executableAnyway(definition);
    if (paths.length > 0) log.warn({ agent, paths }, "nothing keeps the agent from executing what is there");
  }
}

/**
 * Opens what a worker needs, and announces it on its host; what was opened is closed again where that fails.
 *
 * @throws InvalidConfigurationError; the store's errors, where it is not to be used
 */
export async function openWorkerParts(
  variables: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<WorkerParts> {
  await using cleanUp = new AsyncDisposableStack();
  const environment = readEnvironment(variables);
  const source = new ConfigurationSource({
    path: environment.LONGSHORE_CONFIG,
    environment: variables,
    onReload: () => {
      log.info("configuration reloaded");
      tellOfAccess(source.current, log);
    },
    onRefused: (error) => log.error({ err: error }, "the new configuration is refused; the old one stays"),
  });
  source.secrets.add(environmentSecrets(variables));
  const log = createLogger({ name: "worker", level: environment.LOG_LEVEL, secrets: source.secrets });
  tellOfAccess(source.current, log);
  const host = hostname();
  // New for each start: labels tell whose a sandbox is.
  const workerId = `${environment.LONGSHORE_WORKER_ID ?? host}-${randomBytes(4).toString("hex")}`;
  const { worker: settings, dispatcher } = source.current;
  const metrics = new Metrics();
  const agents = () => Object.values(source.current.agents);

  const runDirectory = environment.LONGSHORE_RUN_DIR;
  await mkdir(runDirectory, { recursive: true, mode: 0o711 });
  const presence = await WorkerPresence.announce(runDirectory, workerId);
  cleanUp.defer(() => presence.close());

  const onRedisError = (error: Error) => log.warn({ err: error }, "Redis");
  const redis = connectRedis(environment.REDIS_URL, {
    commandTimeoutMs: REDIS_COMMAND_TIMEOUT_MS,
    onError: onRedisError,
  });
  cleanUp.defer(() => redis.disconnect());
  const queueConnection = connectRedis(environment.REDIS_URL, { onError: onRedisError });
  cleanUp.defer(() => queueConnection.disconnect());
  const subscriber = connectRedis(environment.REDIS_URL, { onError: onRedisError });
  cleanUp.defer(() => subscriber.disconnect());

  const stored = new StoredBytes(redis, (error) =>
    log.warn({ err: error }, "what was stored is counted later"),
  );
  cleanUp.defer(() => stored.close());
  const store = new SessionStore({
    onStored: (tenant, bytes) => stored.add(tenant, bytes),
    backend: openBackend(environment.OBJECT_STORE_URL, {
      ...(environment.S3_ENDPOINT === undefined ? {} : { endpoint: environment.S3_ENDPOINT }),
      forcePathStyle: environment.S3_FORCE_PATH_STYLE,
      region: environment.AWS_REGION,
      onRequest: (operation, outcome, sent, received) => {
        metrics.objectStoreRequests.inc({ operation, outcome });
        metrics.objectStoreBytes.inc({ direction: "up" }, sent);
        metrics.objectStoreBytes.inc({ direction: "down" }, received);
      },
    }),
    longestActivationMs: longestActivationMs(source.current),
    ...(settings.chunkCache === 0
      ? {}
      : {
          cache: {
            directory: join(runDirectory, "chunk-cache"),
            maxBytes: settings.chunkCache,
            onEvent: (event, bytes, error) => {
              metrics.chunkCacheBytes.inc({ event }, bytes);
              if (event === "failed") log.warn({ err: error }, "the chunk cache can't be written");
            },
          },
        }),
  });
  cleanUp.defer(() => store.close());
  await store.probe(signal);

  const runtimes = new Runtimes(
    new StartBreaker(
      new DockerRuntime({ address: environment.DOCKER_HOST ?? DEFAULT_ENGINE, host, runDirectory }),
    ),
    new StartBreaker(new BwrapRuntime({ host, runDirectory })),
  );
  const notReady = await runtimes.check(agents());
  if (notReady.length > 0) log.warn({ reasons: notReady }, "not every agent's sandbox can be started");

  const state = new SessionState(redis, {
    recordTtlMs: dispatcher.records.keep,
    eventsLength: dispatcher.events.length,
    eventsTtlMs: dispatcher.events.keep,
  });
  const replyWakes = openReplyWakes(queueConnection);
  replyWakes.queue.on("error", onRedisError);
  cleanUp.defer(() => replyWakes.close());
  const order = new TurnOrder(redis);
  const turnWakes = openTurnWakes(queueConnection, order);
  turnWakes.queue.on("error", onRedisError);
  cleanUp.defer(() => turnWakes.close());
  const inbound = new Queue(queueNames.inbound, { connection: queueConnection, prefix: QUEUE_PREFIX });
  inbound.on("error", onRedisError);
  cleanUp.defer(() => inbound.close());
  const book = new ScheduleBook(redis);
  const configuration = () => source.current;
  const skills = new SkillCache(store, join(runDirectory, "skills"));
  await mkdir(join(runDirectory, "skills"), { recursive: true, mode: 0o711 });
  const users = new SandboxUsers({ runDirectory, workerId });
  cleanUp.defer(() => users.close());

  const opened = cleanUp.move();
  return {
    ...{ environment, source, log, metrics, workerId, redis, queueConnection, subscriber, onRedisError },
    ...{ runtimes, agents, order, turnWakes },
    parts: {
      state,
      store,
      volumes: { leases: new VolumeLeases(redis), wakes: turnWakes },
      slots: new Slots(runDirectory, workerId, await openDisks(runDirectory, workerId, log)),
      users,
      runtimeOf: (agent) => runtimes.of(agent),
      mountsOf: async (agent, grants, log) => [
        ...(await resolveMounts(agent, grants, source.current.mounts, ownPaths(environment), log)),
        ...(await skills.mountsOf(agent)),
      ],
      replyWakes,
      tools: {
        schedules: new Schedules({ book, inbound, configuration, clock: systemClock }),
        links: new ArtifactLinks(redis, systemClock),
        publicUrl: environment.LONGSHORE_PUBLIC_URL,
        route: (destination) => routeMessage(source.current, destination),
      },
      agentOf: (name, tenant) => {
        const { agents } = source.current;
        const agent = Object.hasOwn(agents, name) ? agents[name] : undefined;
        return agent?.tenant === tenant ? agent : undefined;
      },
      metrics,
      log,
      clock: systemClock,
      random: Math.random,
      host,
      worker: workerId,
      leaseMs: settings.lease,
      quantum: () => source.current.worker.quantum,
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** Undefined where directories of this host can't be bounded by file systems of their own: they are watched then. */
async function openDisks(
  runDirectory: string,
  workerId: string,
  log: Logger,
): Promise<SlotDisks | undefined> {
  try {
    return await SlotDisks.open(runDirectory, workerId);
  } catch (error) {
    if (!(error instanceof SlotDiskError)) throw error;
    log.warn({ err: error }, "session directories are kept to their quota by a look at them each second");
    return undefined;
  }
}

/** What holds other sessions' files, or the fleet's secrets: no mount may show it. */
function ownPaths({ LONGSHORE_RUN_DIR, LONGSHORE_CONFIG, OBJECT_STORE_URL }: Environment): string[] {
  const store = OBJECT_STORE_URL.startsWith("file:") ? [fileURLToPath(OBJECT_STORE_URL)] : [];
  return [LONGSHORE_RUN_DIR, LONGSHORE_CONFIG, ...store];
}
