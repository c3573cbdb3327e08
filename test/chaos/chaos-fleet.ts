import { randomBytes } from "node:crypto";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import { onFreePorts } from "../../infra/setup/free-port.ts";
import { cacheDirectory } from "../../infra/setup/paths.ts";
import { startRedisServer } from "../../infra/setup/redis.ts";
import { waitUntil } from "../../infra/setup/wait-until.ts";
import type { LogLine } from "../support/app-process.ts";
import { Fleet } from "../support/fleet.ts";
import type { Effect, Incident, LateCommit } from "./history.ts";
import { VOLUME } from "./planned-message.ts";
import { ReplyReceiver } from "./reply-receiver.ts";
import { Seat } from "./seat.ts";
import type { SeededRandom } from "./seeded-random.ts";
import { Traffic } from "./traffic.ts";

/** Short, so that a dead worker's sessions go on soon; and long enough for a machine with much to do. */
export const LEASE_MS = 2_000;
/** More than the sessions need while one of the workers is away. */
const PLACES = 6;
/** Which message of the first session kills its worker. */
const DEADLY_AT = 3;
/** A gap of the harness' own timer that says that the machine stood still, in ms. */
const STALL_MS = 700;
const STALL_CHECK_MS = 100;
/** How long a replica may take to follow, and to write what it has. */
const REPLICA_LIMIT_MS = 30_000;

/** How many sessions there are of each kind. */
export interface ChaosSessions {
  /** Their sandbox is bubblewrap. */
  readonly bwrap: number;
  /** Their sandbox is Docker. */
  readonly docker: number;
  /** As the first, for each other way in which a message may meet a turn that runs. @default 0 */
  readonly busy?: number;
  /** As the first, with a volume that all of them write. @default 0 */
  readonly shared?: number;
}

/** Agents by how what comes while their turn runs meets it, where that is not to wait. */
const BUSY_AGENTS = {
  joined: { busy: "coalesce", coalesce: { quiet: "50ms", longest: "500ms" } },
  steered: { busy: "steer" },
  pressed: { busy: "interrupt" },
  undone: { busy: "rollback" },
  refusing: { busy: "reject" },
} as const;

export interface ChaosFleetOptions {
  readonly workers: number;
  readonly dispatchers: number;
  readonly sessions: ChaosSessions;
  readonly random: SeededRandom;
  /** Whether one of the messages kills whatever process serves it. @default false */
  readonly hasDeadlyMessage?: boolean;
  /** Merged over the worker's settings. */
  readonly worker?: Readonly<Record<string, unknown>>;
}

/** A fleet that is made to suffer, what talks to it, and a record of what was done to it. */
export class ChaosFleet implements AsyncDisposable {
  readonly fleet: Fleet;
  readonly receiver: ReplyReceiver;
  readonly workers: readonly Seat[];
  readonly dispatchers: readonly Seat[];
  readonly traffic: Traffic;
  readonly incidents: Incident[] = [];
  readonly lateCommits: LateCommit[] = [];
  readonly #stallWatch: NodeJS.Timeout;
  #isStopping = false;

  private constructor(
    fleet: Fleet,
    receiver: ReplyReceiver,
    seats: readonly Seat[],
    { sessions, random, hasDeadlyMessage = false }: ChaosFleetOptions,
  ) {
    this.fleet = fleet;
    this.receiver = receiver;
    this.workers = seats.filter(({ app }) => app === "worker");
    this.dispatchers = seats.filter(({ app }) => app === "dispatcher");
    const agents = [
      ...Array.from({ length: sessions.bwrap }, () => "shell"),
      ...Array.from({ length: sessions.docker }, () => "boxed"),
      ...Array.from({ length: sessions.shared ?? 0 }, () => "shared"),
      ...Array.from({ length: sessions.busy ?? 0 }, () => Object.keys(BUSY_AGENTS)).flat(),
    ];
    this.traffic = new Traffic({
      addresses: () =>
        this.dispatchers.flatMap(({ ready }) => (ready === undefined ? [] : String(ready.url))),
      key: fleet.key,
      redisUrl: fleet.redis.url,
      conversations: agents.map((agent, index) => ({
        ...{
          conversation: `c${index}`,
          agent,
          interrupts: agent === "pressed",
          refuses: agent === "refusing",
          hasVolume: agent === "shared",
        },
        // Any but the one that may have a deadly message.
        isScheduled: index === 1,
        deadlyAt: hasDeadlyMessage && index === 0 ? DEADLY_AT : undefined,
      })),
      random: random.fork("traffic"),
    });
    for (const seat of this.workers) seat.onLine = (line) => this.#strike(seat, line);
    receiver.onAnswered = (messageId) => this.traffic.answered(messageId);
    let lastMs = Date.now();
    this.#stallWatch = setInterval(() => {
      const nowMs = Date.now();
      if (nowMs - lastMs > STALL_MS)
        this.incidents.push({
          ...{ kind: "the machine stood still", target: "all", from: lastMs, until: nowMs },
          effects: ["worker-stopped"],
        });
      lastMs = nowMs;
    }, STALL_CHECK_MS);
  }

  /** Starts everything. The services are those that the environment names; Redis is a private one. */
  static async start(options: ChaosFleetOptions): Promise<ChaosFleet> {
    await using starting = new AsyncDisposableStack();
    const receiver = starting.use(await ReplyReceiver.start());
    const fleet = starting.use(
      await Fleet.start({
        store: "s3",
        agent: {
          limits: { memory: "192MiB", cpus: 2, pids: 128 },
          retry: { attempts: 4, backoff: "100ms", longest: "1s" },
          linger: "1s",
          // What is said of each message of a turn, not of the last alone.
          reply: "all",
        },
        agents: { boxed: { runtime: "docker" }, shared: { volumes: [VOLUME] }, ...BUSY_AGENTS },
        worker: { places: PLACES, lease: `${LEASE_MS}ms`, drain: "8s", reaper: "1s", ...options.worker },
        channels: { hook: receiver.channel },
      }),
    );
    const environment = {
      ...fleet.environment,
      // What is started over and over need not be compiled over and over.
      NODE_COMPILE_CACHE: join(cacheDirectory, "compiled"),
    };
    const seats: Seat[] = [];
    for (const [app, count] of [
      ["dispatcher", options.dispatchers],
      ["worker", options.workers],
    ] as const) {
      for (let number = 0; number < count; number++)
        seats.push(starting.use(await Seat.open({ app, number, environment })));
    }
    await Promise.all(seats.map((seat) => seat.start()));
    const made = new ChaosFleet(fleet, receiver, seats, options);
    starting.move();
    return made;
  }

  get seats(): readonly Seat[] {
    return [...this.dispatchers, ...this.workers];
  }

  /** Notes that something is done to the fleet; gives how to note that it is over. */
  begin(
    kind: string,
    target: string,
    effects: readonly Effect[] = [],
    detail?: Readonly<Record<string, unknown>>,
  ): () => void {
    const incident: Incident = {
      ...{ kind, target, from: Date.now(), effects },
      ...(detail === undefined ? {} : { detail }),
    };
    this.incidents.push(incident);
    return () => {
      incident.until = Date.now();
    };
  }

  /** Kills the process that sends a deadly message as a prompt: a worker, or one that it started for that. */
  #strike(seat: Seat, { msg, messageIds, pid }: LogLine): void {
    if (msg !== "prompt sent" || !Array.isArray(messageIds)) return;
    if (this.#isStopping || !messageIds.some((id) => this.traffic.isDeadly(String(id)))) return;
    if (pid !== seat.process.pid) {
      this.begin("quarantine killed by its message", seat.name)();
      process.kill(Number(pid), "SIGKILL");
      return;
    }
    const over = this.begin("worker killed by a message", seat.name);
    seat.expectEnd();
    seat.process.signal("SIGKILL");
    void seat.alone(async () => {
      // What stops all may have come in between.
      if (seat.ready === undefined && !this.#isStopping) await seat.restart();
      over();
    });
  }

  /** Redis dies, and what it becomes is what a replica had of it then. */
  async failOverRedis(afterMs: number): Promise<void> {
    const { redis, directory } = this.fleet;
    const { port } = new URL(redis.url);
    const place = join(directory, `redis-replica-${randomBytes(4).toString("hex")}`);
    const replica = await onFreePorts(1, (free = 0) =>
      startRedisServer({ directory: place, port: free, settings: ["--replicaof", "127.0.0.1", port] }),
    );
    const client = new Redis(replica.url);
    try {
      const said = (word: string) => async () => (await client.info()).includes(word);
      await waitUntil(said("master_link_status:up"), {
        what: "the replica to follow",
        timeoutMs: REPLICA_LIMIT_MS,
      });
      await delay(afterMs);
      await redis.kill();
      await client.replicaof("NO", "ONE");
      // A replica begins its file anew when it has the whole of its master's data.
      const isWritten = async () =>
        (await said("aof_rewrite_scheduled:0")()) && (await said("aof_rewrite_in_progress:0")());
      await waitUntil(isWritten, { what: "the replica to write its file", timeoutMs: REPLICA_LIMIT_MS });
    } finally {
      client.disconnect();
      await replica.stop();
    }
    const data = join(directory, "redis", "appendonlydir");
    await rm(data, { recursive: true });
    await cp(join(place, "appendonlydir"), data, { recursive: true });
    await rm(place, { recursive: true });
    await redis.restart();
  }

  /** Ends all processes in order: the workers first, which still have replies to hand over. */
  async stop(): Promise<void> {
    clearInterval(this.#stallWatch);
    this.#isStopping = true;
    // Behind whoever is still at work on a seat.
    await Promise.all(this.workers.map((seat) => seat.alone(() => seat.stop())));
    await Promise.all(this.dispatchers.map((seat) => seat.alone(() => seat.stop())));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#stallWatch);
    await this.traffic[Symbol.asyncDispose]();
    await Promise.all(this.seats.map((seat) => seat[Symbol.asyncDispose]()));
    await this.fleet[Symbol.asyncDispose]();
    await this.receiver[Symbol.asyncDispose]();
  }
}
