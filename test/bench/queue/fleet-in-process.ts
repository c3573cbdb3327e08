import { join } from "node:path";
import {
  type AcceptedMessage,
  ArtifactLinks,
  type Configuration,
  configurationSchema,
  connectRedis,
  createLogger,
  deriveMessageId,
  gateLimit,
  type Message,
  MessageRate,
  Metrics,
  messageSchema,
  openReplyWakes,
  openTurnWakes,
  QUEUE_PREFIX,
  queueNames,
  routeMessage,
  ScheduleBook,
  Schedules,
  SessionState,
  StoredBytes,
  systemClock,
  TENANT_GATE,
  TurnGates,
  TurnOrder,
  VolumeLeases,
  workerChannel,
} from "@longshore/shared";
import { Queue } from "bullmq";
import { Acceptor } from "../../../apps/dispatcher/src/accept.ts";
import { AttachmentSource } from "../../../apps/dispatcher/src/attachment-source.ts";
import { UploadSpool } from "../../../apps/dispatcher/src/http/upload-spool.ts";
import { WaitingMessages } from "../../../apps/dispatcher/src/waiting-messages.ts";
import { Quarantine } from "../../../apps/worker/src/quarantine.ts";
import { TurnWorker } from "../../../apps/worker/src/worker.ts";
import { atOnce } from "./at-once.ts";
import { failBench } from "./fail-bench.ts";
import { type NoOpSandboxOptions, NoOpSandboxRuntime } from "./no-op-sandbox.ts";
import { NoOpSlots, noOpUsers } from "./no-op-slots.ts";
import { noOpStore } from "./no-op-store.ts";

const TENANT = "bench";
const WORKER = "bench-worker";
/** How often it is looked whether all messages are answered, in ms. */
const LOOK_MS = 2;
/** Messages that are made to wait at once. */
const FILLING = 1_024;

export interface FleetInProcessOptions extends NoOpSandboxOptions {
  readonly redisUrl: string;
  /** For the one slot; made where it is missing. */
  readonly directory: string;
  /** Activations at once. @default 16 */
  readonly places?: number;
  /** Merged over the agent's definition. */
  readonly agent?: Readonly<Record<string, unknown>>;
}

/**
 * What a dispatcher accepts messages with and what a worker serves them with, in this process, on a real Redis. Sandbox
 * and store do nothing.
 */
export class FleetInProcess implements AsyncDisposable {
  readonly state: SessionState;
  readonly #acceptor: Acceptor;
  readonly #worker: TurnWorker;
  readonly #metrics: Metrics;
  readonly #configuration: Configuration;
  readonly #stack: AsyncDisposableStack;

  static async start(options: FleetInProcessOptions): Promise<FleetInProcess> {
    await using stack = new AsyncDisposableStack();
    const connect = () => {
      const redis = connectRedis(options.redisUrl, { onError: failBench });
      stack.defer(() => redis.disconnect());
      return redis;
    };
    // As the processes have them: the dispatcher's commands, the worker's, its queues, its hints.
    const [dispatcherRedis, workerRedis, queues, subscriber] = [connect(), connect(), connect(), connect()];
    const configuration = benchConfiguration(options.agent);
    const metrics = new Metrics();
    const log = createLogger({ name: "bench", level: "error" });
    const { records, events } = configuration.dispatcher;
    const stateOn = (redis: typeof workerRedis) =>
      new SessionState(redis, {
        recordTtlMs: records.keep,
        eventsLength: events.length,
        eventsTtlMs: events.keep,
      });
    const store = noOpStore();
    const turnWakes = openTurnWakes(dispatcherRedis, new TurnOrder(dispatcherRedis));
    stack.defer(() => turnWakes.close());
    const order = new TurnOrder(workerRedis);
    const workerWakes = openTurnWakes(queues, order);
    stack.defer(() => workerWakes.close());
    const replyWakes = openReplyWakes(queues);
    stack.defer(() => replyWakes.close());
    const inbound = new Queue(queueNames.inbound, { connection: dispatcherRedis, prefix: QUEUE_PREFIX });
    stack.defer(() => inbound.close());
    const acceptor = new Acceptor({
      rate: new MessageRate(dispatcherRedis),
      stored: new StoredBytes(dispatcherRedis, () => undefined),
      attachmentSource: new AttachmentSource(
        new UploadSpool({ directory: join(options.directory, "uploads") }),
      ),
      waiting: new WaitingMessages({ inbound, redis: dispatcherRedis }),
      ...{ configuration: () => configuration, state: stateOn(dispatcherRedis), store, turnWakes },
      ...{ redis: dispatcherRedis, metrics, log, clock: systemClock },
    });
    const slots = await NoOpSlots.make(options.directory);
    const runtime = new NoOpSandboxRuntime(options);
    const leaseMs = configuration.worker.lease;
    const agentOf = (name: string) => configuration.agents[name];
    const worker = new TurnWorker({
      admission: {
        ...{ gates: new TurnGates(workerRedis, leaseMs), state: stateOn(workerRedis), wakes: workerWakes },
        ...{ runningTurns: (tenant) => gateLimit(configuration, tenant, TENANT_GATE), agentOf, leaseMs },
        ...{ clock: systemClock, log },
      },
      ...{ connection: queues, places: options.places ?? configuration.worker.places, leaseMs, log },
      ...{ order, wakes: workerWakes, quarantine: new Quarantine({ environment: {}, log }) },
      parts: {
        ...{ state: stateOn(workerRedis), store, slots, users: noOpUsers },
        ...{
          runtimeOf: () => runtime,
          takeWarm: () => undefined,
          replyWakes,
          agentOf,
          mountsOf: async () => [],
          volumes: { leases: new VolumeLeases(workerRedis), wakes: workerWakes },
          metrics,
          log,
        },
        tools: {
          schedules: new Schedules({
            ...{ book: new ScheduleBook(workerRedis), inbound, clock: systemClock },
            configuration: () => configuration,
          }),
          links: new ArtifactLinks(workerRedis, systemClock),
          publicUrl: undefined,
          route: (destination) => routeMessage(configuration, destination),
        },
        ...{ clock: systemClock, random: Math.random, host: "bench", worker: WORKER, leaseMs },
        quantum: () => configuration.worker.quantum,
      },
    });
    stack.defer(() => worker.drain(0));
    subscriber.on("message", (_, sessionId: string) => worker.hint(sessionId));
    await subscriber.subscribe(workerChannel(WORKER));
    return new FleetInProcess(
      acceptor,
      stateOn(dispatcherRedis),
      worker,
      metrics,
      configuration,
      stack.move(),
    );
  }

  private constructor(
    acceptor: Acceptor,
    state: SessionState,
    worker: TurnWorker,
    metrics: Metrics,
    configuration: Configuration,
    stack: AsyncDisposableStack,
  ) {
    this.#acceptor = acceptor;
    this.state = state;
    this.#worker = worker;
    this.#metrics = metrics;
    this.#configuration = configuration;
    this.#stack = stack;
  }

  /** Lets the worker take wakes. */
  serve(): void {
    this.#worker.start();
  }

  async accept(message: Message): Promise<void> {
    await this.#acceptor.accept(TENANT, message);
  }

  /**
   * Makes so many messages wait, in so many sessions, sooner than `accept` could: the first of a session as all messages
   * are accepted, the others without its wake, which waits already.
   */
  async fill(messages: number, sessions: number): Promise<void> {
    const known = new Map<number, AcceptedMessage>();
    const read = async (session: number): Promise<AcceptedMessage> => {
      const { sessionId } = routeMessage(this.#configuration, { tenant: TENANT, ...fillMessage(session) });
      const [message] = await this.state.readMailbox(sessionId, 1);
      return message as AcceptedMessage;
    };
    await atOnce(sessions, FILLING, async (session) => {
      await this.accept(fillMessage(session));
      known.set(session, await read(session));
    });
    await atOnce(messages - sessions, FILLING, async (index) => {
      const like = known.get(index % sessions) as AcceptedMessage;
      const id = deriveMessageId(like.sessionId, `more-${index}`);
      await this.state.accept({ ...like, id }, messages);
    });
  }

  /** Resolves when so many messages were answered since the start. */
  async answered(count: number): Promise<void> {
    while ((await this.#countAnswered()) < count)
      await new Promise<void>((resolve) => setTimeout(resolve, LOOK_MS));
  }

  async #countAnswered(): Promise<number> {
    const { values } = await this.#metrics.messages.get();
    return values
      .filter(({ labels }) => labels.outcome === "answered")
      .reduce((sum, { value }) => sum + value, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** The first of those that `fill` makes wait in a session. */
function fillMessage(session: number): Message {
  return benchMessage(`waiting-${session}`, `session-${session}`);
}

/** A short message of a chat, the only one in its conversation unless it is named. */
export function benchMessage(id: string, conversation = id): Message {
  return messageSchema.parse({
    ...{ id, conversation, agent: "idle", channel: "http" },
    ...{ sender: { id: "somebody" }, text: "What is new?" },
  });
}

function benchConfiguration(agent: Readonly<Record<string, unknown>> = {}): Configuration {
  return configurationSchema.parse({
    // What is measured is not what a tenant may have.
    tenants: { [TENANT]: { limits: { messagesPerMinute: 10_000_000, runningTurns: 10_000 } } },
    agents: {
      idle: { tenant: TENANT, runtime: "bwrap", rootfs: "host", command: ["none"], linger: "0s", ...agent },
    },
    routes: [{ channel: "http", agent: "idle" }],
    channels: { http: {} },
  });
}
