import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { BwrapRuntime, DockerRuntime, Reaper, SandboxUsers, Slots, WorkerPresence } from "@longshore/sandbox";
import { openBackend, SessionStore } from "@longshore/session-store";
import {
  ConfigurationSource,
  connectRedis,
  createLogger,
  environmentSecrets,
  InvalidConfigurationError,
  longestActivationMs,
  Metrics,
  openReplyWakes,
  openTurnWakes,
  readEnvironment,
  SessionState,
  serveHealth,
  sessionKeys,
  shutdownSignal,
  systemClock,
  TurnOrder,
  workerChannel,
} from "@longshore/shared";
import { Runtimes } from "./runtimes.ts";
import { TurnWorker } from "./worker.ts";

/** Where a Docker engine listens when nothing else is said. */
const DEFAULT_ENGINE = "unix:///var/run/docker.sock";
/** How long a command of Redis may take before it counts as failed, in ms. */
const REDIS_COMMAND_TIMEOUT_MS = 10_000;

/** Starts a worker; resolves when it has drained after SIGTERM or SIGINT. */
async function runWorker(variables: NodeJS.ProcessEnv): Promise<void> {
  const environment = readEnvironment(variables);
  const shutdown = shutdownSignal();
  const source = new ConfigurationSource({
    path: environment.LONGSHORE_CONFIG,
    environment: variables,
    onReload: () => log.info("configuration reloaded"),
    onRefused: (error) => log.error({ err: error }, "the new configuration is refused; the old one stays"),
  });
  const log = createLogger({
    name: "worker",
    level: environment.LOG_LEVEL,
    secrets: [...environmentSecrets(variables), ...source.secrets],
  });
  const host = hostname();
  // New for each start: labels tell whose a sandbox is.
  const workerId = `${environment.LONGSHORE_WORKER_ID ?? host}-${randomBytes(4).toString("hex")}`;
  const { worker: settings, dispatcher } = source.current;
  const metrics = new Metrics();
  const agents = () => Object.values(source.current.agents);
  await using cleanUp = new AsyncDisposableStack();

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

  const store = new SessionStore({
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
  await store.probe(shutdown);

  const runtimes = new Runtimes(
    new DockerRuntime({ address: environment.DOCKER_HOST ?? DEFAULT_ENGINE, host, runDirectory }),
    new BwrapRuntime({ host, runDirectory }),
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
  const users = new SandboxUsers({ runDirectory, workerId });
  cleanUp.defer(() => users.close());

  const worker = new TurnWorker({
    connection: queueConnection,
    places: environment.LONGSHORE_PLACES ?? settings.places,
    leaseMs: settings.lease,
    log,
    order,
    wakes: turnWakes,
    parts: {
      state,
      store,
      slots: new Slots(runDirectory, workerId),
      users,
      runtimeOf: (agent) => runtimes.of(agent),
      replyWakes,
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
    },
  });

  const reaper = new Reaper({
    runtimes: runtimes.usedBy(agents()),
    runDirectory,
    intervalMs: settings.reaper,
    // Of another worker that lives, perhaps stopped: over where the session's lease is not its own. What was
    // found without labels (a process, a control group) names no session: its worker will see to it.
    isActivationLive: async ({ worker: owner, sessionId, nonce }) => {
      if (owner === workerId) return worker.owns(nonce);
      return sessionId === "" || (await redis.hget(sessionKeys(sessionId).lease, "nonce")) === nonce;
    },
    onPass: ({ sandboxes, slots, workers, stuck, errors }) => {
      metrics.orphansReaped.inc(sandboxes + slots);
      if (sandboxes + slots + workers > 0)
        log.warn({ sandboxes, slots, workers }, "removed what dead activations left");
      for (const failure of stuck)
        log.error({ sandbox: failure.id, err: failure.error }, "a sandbox will not die");
      for (const error of errors) log.warn({ err: error }, "the reaper could not look everywhere");
    },
  });
  reaper.start();
  cleanUp.defer(() => reaper.stop());

  const health = await serveHealth({
    host: environment.METRICS_HOST,
    port: environment.METRICS_PORT,
    registry: metrics.registry,
    readiness: async () => [
      ...(redis.status === "ready" ? [] : ["Redis is not connected"]),
      ...(shutdown.aborted ? ["the worker is draining"] : []),
      ...(await runtimes.check(agents())),
    ],
  });
  cleanUp.defer(() => health.close());

  subscriber.on("message", (_, sessionId: string) => worker.hint(sessionId));
  await subscriber.subscribe(workerChannel(workerId));
  source.watch();
  cleanUp.defer(() => source.close());

  worker.start();
  log.info(
    { workerId, metricsUrl: health.url, places: environment.LONGSHORE_PLACES ?? settings.places },
    "worker ready",
  );
  await new Promise<void>((resolve) => {
    if (shutdown.aborted) resolve();
    else shutdown.addEventListener("abort", () => resolve(), { once: true });
  });
  log.info({ drainMs: settings.drain }, "draining");
  await worker.drain(settings.drain);
  log.info("worker stopped");
}

try {
  await runWorker(process.env);
  process.exitCode = 0;
} catch (error) {
  process.stderr.write(
    `${error instanceof InvalidConfigurationError ? error.message : ((error as Error).stack ?? error)}\n`,
  );
  process.exitCode = 1;
}
