import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { SessionRef } from "@longshore/session-store";
import { stringify } from "yaml";
import { type Redis, startRedis } from "../../../infra/setup/redis.ts";
import { AppProcess } from "../../support/app-process.ts";
import { HandWorker } from "./hand-worker.ts";

const main = fileURLToPath(new URL("../../../apps/dispatcher/src/main.ts", import.meta.url));

/** Keys of the stack's configuration, by what they may do. */
export const keys = {
  acme: "key-of-acme-that-may-all",
  sender: "key-of-acme-that-may-send",
  reader: "key-of-acme-that-may-read",
  other: "key-of-the-other-tenant",
  operator: "key-of-the-fleet-operator",
} as const;

const hash = (key: string) => `sha256:${createHash("sha256").update(key).digest("hex")}`;

function agent(tenant: string, limits: object): object {
  return { tenant, runtime: "bwrap", rootfs: "host", command: ["/bin/false"], limits };
}

export interface StackOptions {
  /** Channels beside `http`. */
  readonly channels?: Readonly<Record<string, unknown>>;
  /** Most messages that wait in a session. */
  readonly mailbox?: number;
  /** Merged over the limits of the tenant `acme`. */
  readonly limits?: Readonly<Record<string, unknown>>;
  /** Merged over the dispatcher's settings. */
  readonly dispatcher?: Readonly<Record<string, unknown>>;
  readonly durability?: string;
  /** Of the agent `helper`. */
  readonly attachmentOrigins?: readonly string[];
}

export interface Running {
  readonly process: AppProcess;
  readonly url: string;
  readonly metricsUrl: string;
}

/** A private Redis, a store in a directory, dispatchers as processes, and a worker that the test moves by hand. */
export class DispatcherStack implements AsyncDisposable {
  readonly directory: string;
  readonly redis: Redis;
  readonly worker: HandWorker;
  readonly #processes: AppProcess[] = [];

  private constructor(directory: string, redis: Redis) {
    this.directory = directory;
    this.redis = redis;
    this.worker = new HandWorker(redis.url, this.storeUrl, join(directory, "slots"));
  }

  static async start({
    channels = {},
    dispatcher = {},
    durability = "local",
    mailbox = 100,
    limits = {},
    attachmentOrigins = [],
  }: StackOptions = {}): Promise<DispatcherStack> {
    const directory = await mkdtemp(join(tmpdir(), "longshore-dispatcher-"));
    const redis = await startRedis({ directory: join(directory, "redis") });
    const configuration = {
      tenants: {
        acme: {
          keys: [
            { id: "all", hash: hash(keys.acme), scopes: ["send", "read", "operate"] },
            { id: "sender", hash: hash(keys.sender), scopes: ["send"] },
            { id: "reader", hash: hash(keys.reader), scopes: ["read"] },
          ],
          limits: { mailbox, messagesPerMinute: 1_000_000, ...limits },
        },
        other: { keys: [{ id: "other", hash: hash(keys.other), scopes: ["send", "read", "operate"] }] },
      },
      operators: [{ id: "operator", hash: hash(keys.operator) }],
      agents: {
        helper: {
          ...agent("acme", { message: "1KiB", attachments: 2, attachmentBytes: "64KiB", disk: "1MiB" }),
          timeZone: "Asia/Tokyo",
          attachmentOrigins,
        },
        stranger: agent("other", {}),
      },
      routes: ["http", ...Object.keys(channels)].flatMap((channel) =>
        ["helper", "stranger"].map((name) => ({ channel, agent: name, session: "shared" })),
      ),
      channels: { http: {}, unrouted: {}, ...channels },
      worker: { lease: "1s" },
      dispatcher: { sweeper: "200ms", ...dispatcher },
      durability,
    };
    configuration.routes = configuration.routes.filter(({ channel }) => channel !== "unrouted");
    await writeFile(join(directory, "longshore.yaml"), stringify(configuration));
    return new DispatcherStack(directory, redis);
  }

  get storeUrl(): string {
    return `file://${join(this.directory, "store")}`;
  }

  /** Starts a dispatcher that may fail to. */
  launch(environment: NodeJS.ProcessEnv = {}): AppProcess {
    const process = AppProcess.start("dispatcher", [main], {
      LONGSHORE_CONFIG: join(this.directory, "longshore.yaml"),
      REDIS_URL: this.redis.url,
      OBJECT_STORE_URL: this.storeUrl,
      LONGSHORE_RUN_DIR: join(this.directory, "run"),
      PORT: "0",
      METRICS_PORT: "0",
      LOG_LEVEL: "debug",
      ...environment,
    });
    this.#processes.push(process);
    return process;
  }

  /** Starts a dispatcher and waits until it is ready. */
  async dispatcher(environment: NodeJS.ProcessEnv = {}): Promise<Running> {
    const process = this.launch(environment);
    const ready = await process.line(({ msg }) => msg === "dispatcher ready");
    return { process, url: ready.url as string, metricsUrl: ready.metricsUrl as string };
  }

  /** The stored attachments of a session, as files. */
  async inboundFiles({ tenant, sessionId }: SessionRef): Promise<string[]> {
    const root = join(this.directory, "store", tenant);
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name))
      .filter((path) => path.includes(sessionId) && path.includes("/inbound/"));
  }

  /** Makes a file older than it is. */
  async age(path: string, byMs: number): Promise<void> {
    const time = new Date(Date.now() - byMs);
    await utimes(path, time, time);
  }

  /** The processes beside this one. */
  others({ process }: Running): AppProcess[] {
    return this.#processes.filter((other) => other !== process);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((process) => process.stop()));
    await this.worker.close();
    await this.redis.stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}
