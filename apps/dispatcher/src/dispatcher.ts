import { join } from "node:path";
import { openBackend, SessionStore } from "@longshore/session-store";
import {
  ArtifactLinks,
  type Clock,
  type Configuration,
  type ConnectRedisOptions,
  connectRedis,
  DeadLetters,
  DurabilityBarrier,
  describeDurability,
  EndedRecords,
  type Environment,
  type Logger,
  longestActivationMs,
  MessageRate,
  Metrics,
  openReplyWakes,
  openTurnWakes,
  QUEUE_PREFIX,
  queueNames,
  ScheduleBook,
  Schedules,
  SessionState,
  StoredBytes,
  serveHealth,
  systemClock,
  TurnGates,
  TurnOrder,
  WorkerRegistry,
} from "@longshore/shared";
import { Queue } from "bullmq";
import { Acceptor } from "./accept.ts";
import { AttachmentSource } from "./attachment-source.ts";
import { awaitAnswer } from "./await-answer.ts";
import { Collector } from "./collector.ts";
import { DeadLetterOffice } from "./dead-letter-office.ts";
import { Channels } from "./delivery/channels.ts";
import { Delivery } from "./delivery/delivery.ts";
import { EventHub } from "./event-hub.ts";
import { buildApi } from "./http/server.ts";
import { ServerCloser } from "./http/server-closer.ts";
import { StreamSlots } from "./http/stream-slots.ts";
import { UploadSpool } from "./http/upload-spool.ts";
import { InboundConsumer } from "./inbound-consumer.ts";
import { MessageViews } from "./message-view.ts";
import { QueueBoard } from "./queue-board.ts";
import { checkReadiness } from "./readiness.ts";
import { checkRedis } from "./redis-suitability.ts";
import { ScheduleKeeper } from "./schedule-keeper.ts";
import { countQueues, countStored } from "./scraped-metrics.ts";
import { SessionAccess } from "./session-access.ts";
import { Sweeper } from "./sweeper.ts";
import { WaitingMessages } from "./waiting-messages.ts";

/** How long Redis may take for a command that somebody waits for, in ms. */
const COMMAND_TIMEOUT_MS = 5_000;
/** How long the start waits for Redis and for the object store, in ms each. */
const START_TIMEOUT_MS = 30_000;

export interface DispatcherOptions {
  readonly environment: Environment;
  readonly configuration: () => Configuration;
  readonly log: Logger;
  /** Ends the start. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
}

export interface Dispatcher {
  /** Of the HTTP API. */
  readonly url: string;
  readonly metricsUrl: string;
  /** Ends in order: clients that wait get an end, jobs and calls in hand are finished. */
  close(): Promise<void>;
}

/**
 * Starts everything a dispatcher does: HTTP, the consumer of `inbound`, delivery, the sweeper, metrics.
 * Throws `UnsuitableRedisError`, `NotReachableError`, the store's errors, and the system's where an address
 * can't be bound; what was started before is ended then.
 */
export async function startDispatcher({
  environment,
  configuration,
  log,
  signal,
  clock = systemClock,
}: DispatcherOptions): Promise<Dispatcher> {
  await using stack = new AsyncDisposableStack();
  const closing = new AbortController();
  const metrics = new Metrics();

  const backend = openBackend(environment.OBJECT_STORE_URL, {
    ...(environment.S3_ENDPOINT === undefined ? {} : { endpoint: environment.S3_ENDPOINT }),
    forcePathStyle: environment.S3_FORCE_PATH_STYLE,
    region: environment.AWS_REGION,
    onRequest: (operation, outcome, bytesSent, bytesReceived) => {
      metrics.objectStoreRequests.inc({ operation, outcome });
      metrics.objectStoreBytes.inc({ direction: "up" }, bytesSent);
      metrics.objectStoreBytes.inc({ direction: "down" }, bytesReceived);
    },
  });
  const connect = (role: string, options: Omit<ConnectRedisOptions, "onError">) => {
    const redis = connectRedis(environment.REDIS_URL, {
      ...options,
      onError: (error) => log.warn({ err: error, role }, "redis connection"),
    });
    stack.defer(() => redis.disconnect());
    return redis;
  };
  // Whoever asks over HTTP is refused while Redis is away; commands that pile up help nobody.
  const redis = connect("commands", { commandTimeoutMs: COMMAND_TIMEOUT_MS, offlineQueue: false });
  const stored = new StoredBytes(redis, (error) =>
    log.warn({ err: error }, "what was stored is counted later"),
  );
  stack.defer(() => stored.close());
  const store = new SessionStore({
    backend,
    clock,
    longestActivationMs: longestActivationMs(configuration()),
    onStored: (tenant, bytes) => stored.add(tenant, bytes),
  });
  stack.defer(() => store.close());
  const subscriber = connect("events", {});
  const inboundRedis = connect("inbound", {});
  const repliesRedis = connect("replies", {});

  const asking = { withinMs: START_TIMEOUT_MS, signal };
  const { durability } = configuration();
  const { facts, guarantee } = await awaitAnswer(() => checkRedis(redis, durability), {
    what: "Redis",
    ...asking,
  });
  const shortcomings = [...guarantee.problems, ...guarantee.missing];
  log[shortcomings.length > 0 ? "warn" : "info"](
    { durability, shortcomings },
    describeDurability(durability, facts),
  );
  const { ask } = guarantee;
  const barrier =
    ask === "nothing"
      ? undefined
      : new DurabilityBarrier({
          // Of its own: it blocks, and what others ask would wait behind it.
          redis: connect("durability", { commandTimeoutMs: COMMAND_TIMEOUT_MS, offlineQueue: false }),
          ask,
        });
  await awaitAnswer(() => store.probe(signal), { what: "The object store", ...asking });

  const { records, events } = configuration().dispatcher;
  const state = new SessionState(redis, {
    recordTtlMs: records.keep,
    eventsLength: events.length,
    eventsTtlMs: events.keep,
  });
  const turnGates = new TurnGates(redis, configuration().worker.lease);
  const turnWakes = openTurnWakes(redis, new TurnOrder(redis));
  const replyWakes = openReplyWakes(redis);
  const inbound = new Queue(queueNames.inbound, { connection: redis, prefix: QUEUE_PREFIX });
  const queues = [inbound, turnWakes.queue, replyWakes.queue];
  for (const queue of queues) {
    queue.on("error", (error) => log.debug({ err: error, queue: queue.name }, "queue"));
    stack.defer(() => queue.close());
  }
  countQueues(metrics.registry, queues);
  countStored(metrics.registry, stored, () => Object.keys(configuration().tenants));

  const rate = new MessageRate(redis);
  const waiting = new WaitingMessages({ inbound, redis });
  const spool = new UploadSpool({ directory: join(environment.LONGSHORE_RUN_DIR, "uploads") });
  const acceptor = new Acceptor({
    configuration,
    state,
    store,
    attachmentSource: new AttachmentSource(spool),
    waiting,
    turnWakes,
    rate,
    stored,
    redis,
    barrier,
    metrics,
    log,
    clock,
  });
  const links = new ArtifactLinks(redis, clock);
  const publicUrl = environment.LONGSHORE_PUBLIC_URL;
  const channels = new Channels({ configuration, store, links, publicUrl, clock });
  stack.defer(() => channels.close());
  const readiness = () => checkReadiness(redis, durability, closing.signal);

  const health = await serveHealth({
    host: environment.METRICS_HOST,
    port: environment.METRICS_PORT,
    registry: metrics.registry,
    readiness,
  });
  stack.defer(() => health.close());

  const delivery = new Delivery({
    state,
    channel: (name) => channels.find(name),
    redis: repliesRedis,
    metrics,
    clock,
    log,
  });
  stack.defer(() => delivery.close());
  const book = new ScheduleBook(redis);
  const schedules = new Schedules({ book, inbound, configuration, clock });
  const scheduleKeeper = new ScheduleKeeper({ schedules, book, configuration, log });
  stack.defer(() => scheduleKeeper.close());
  const consumer = new InboundConsumer({
    acceptor,
    schedules,
    rate,
    configuration,
    redis: inboundRedis,
    clock,
    log,
  });
  stack.defer(() => consumer.close());
  const sweeper = new Sweeper({
    configuration,
    state,
    redis,
    turnWakes,
    turnGates,
    endedRecords: new EndedRecords(redis, records.keep),
    replyWakes,
    metrics,
    log,
  });
  stack.defer(() => sweeper.close());

  const collector = new Collector({ configuration, store, stored, redis, metrics, log });
  stack.defer(() => collector.close());

  const api = await buildApi({
    configuration,
    acceptor,
    turnWakes,
    state,
    store,
    redis,
    hub: new EventHub(subscriber, log),
    waiting,
    schedules,
    workers: new WorkerRegistry(redis),
    queues,
    views: new MessageViews({ state, store, waiting }),
    deadLetters: new DeadLetterOffice({
      letters: new DeadLetters(redis),
      acceptor,
      state,
      store,
      replyWakes,
    }),
    access: new SessionAccess(state, store),
    links,
    spool,
    board: new QueueBoard({ inbound, turns: turnWakes.queue, replies: replyWakes.queue }),
    slots: new StreamSlots(),
    readiness,
    closing: closing.signal,
    clock,
    log,
  });
  const closer = new ServerCloser(api);
  stack.defer(() => closer.close());
  const url = await api.listen({ host: environment.HOST, port: environment.PORT });

  await consumer.start();
  delivery.start();
  sweeper.start();
  scheduleKeeper.start();
  collector.start();

  // First of all when it closes: readiness says so, and requests that are held open end.
  stack.defer(() => closing.abort());
  const started = stack.move();
  return { url, metricsUrl: health.url, close: () => started.disposeAsync() };
}
