import { Reaper, WarmPool } from "@longshore/sandbox";
import {
  gateLimit,
  InvalidConfigurationError,
  serveHealth,
  sessionKeys,
  shutdownSignal,
  TENANT_GATE,
  TurnGates,
  WorkerRegistry,
  workerChannel,
} from "@longshore/shared";
import { CANCEL_GRACE_MS } from "./agent.ts";
import { Announcer } from "./announcer.ts";
import { definitionHash } from "./definition-hash.ts";
import { Quarantine } from "./quarantine.ts";
import { WarmSandbox, warmAgent } from "./warm-sandbox.ts";
import { TurnWorker } from "./worker.ts";
import { openWorkerParts } from "./worker-parts.ts";

/**
 * How long an orderly end may take beyond the drain, in ms: an agent may take its grace to end a turn, which is handed back
 * then; without Redis neither a release nor the queue's end is ever answered. What is unfinished is as safe as after a crash.
 */
const END_TIMEOUT_MS = CANCEL_GRACE_MS + 10_000;

/** Starts a worker; resolves when it has drained after SIGTERM or SIGINT. */
async function runWorker(variables: NodeJS.ProcessEnv): Promise<void> {
  const shutdown = shutdownSignal();
  await using cleanUp = new AsyncDisposableStack();
  const opened = cleanUp.use(await openWorkerParts(variables, shutdown));
  const { environment, source, log, metrics, workerId, redis, queueConnection, subscriber } = opened;
  const { runtimes, agents, parts, order, turnWakes } = opened;
  const { worker: settings } = source.current;
  const runDirectory = environment.LONGSHORE_RUN_DIR;
  const warmPool = new WarmPool({
    kinds: () => Object.entries(source.current.agents).map(([name, agent]) => warmAgent(name, agent)),
    create: (agent) => new WarmSandbox(agent, parts),
    onChange: (ready) => {
      metrics.warmSandboxes.reset();
      for (const [agent, count] of ready) metrics.warmSandboxes.set({ agent }, count);
    },
    onReady: ({ nonce }, agent) => log.debug({ agent, nonce }, "a warm sandbox is ready"),
    onError: (error, agent) => log.warn({ err: error, agent }, "no warm sandbox"),
  });
  cleanUp.defer(() => warmPool.stop());

  const worker = new TurnWorker({
    connection: queueConnection,
    places: environment.LONGSHORE_PLACES ?? settings.places,
    leaseMs: settings.lease,
    log,
    order,
    wakes: turnWakes,
    admission: {
      gates: new TurnGates(redis, settings.lease),
      state: parts.state,
      wakes: turnWakes,
      runningTurns: (tenant) => gateLimit(source.current, tenant, TENANT_GATE),
      agentOf: parts.agentOf,
      leaseMs: settings.lease,
      clock: parts.clock,
      log,
    },
    quarantine: new Quarantine({ environment: variables, log }),
    parts: {
      ...parts,
      takeWarm: (agent, definition) => warmPool.take(agent, definitionHash(definition)),
    },
  });

  const reaper = new Reaper({
    runtimes: runtimes.usedBy(agents()),
    runDirectory,
    intervalMs: settings.reaper,
    // Of another worker that lives, perhaps stopped: over where the session's lease is not its own. What was
    // found without labels (a process, a control group) names no session: its worker will see to it.
    isActivationLive: async ({ worker: owner, sessionId, nonce }) => {
      if (owner === workerId) return worker.owns(nonce) || warmPool.owns(nonce);
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

  const announcer = new Announcer({
    registry: new WorkerRegistry(redis),
    workerId,
    host: parts.host,
    places: environment.LONGSHORE_PLACES ?? settings.places,
    activity: () => worker.activity,
    draining: () => shutdown.aborted,
    metrics,
    clock: parts.clock,
    log,
  });
  warmPool.start();
  worker.start();
  announcer.start();
  cleanUp.defer(() => announcer.close());
  log.info(
    { workerId, metricsUrl: health.url, places: environment.LONGSHORE_PLACES ?? settings.places },
    "worker ready",
  );
  await new Promise<void>((resolve) => {
    if (shutdown.aborted) resolve();
    else shutdown.addEventListener("abort", () => resolve(), { once: true });
  });
  log.info({ drainMs: settings.drain }, "draining");
  const late = setTimeout(() => {
    log.error({ timeoutMs: settings.drain + END_TIMEOUT_MS }, "not everything ended in time");
    process.exit(1);
  }, settings.drain + END_TIMEOUT_MS);
  late.unref();
  await Promise.all([worker.drain(settings.drain), warmPool.stop()]);
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
