import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { BwrapRuntime, Reaper } from "@longshore/sandbox";
import { stringify } from "yaml";
import { unmountBelow } from "../../infra/setup/mounts.ts";
import { repositoryRoot } from "../../infra/setup/paths.ts";
import { engineAt } from "../../infra/setup/provided-services.ts";
import { type Redis, startRedis } from "../../infra/setup/redis.ts";
import { Api } from "./api.ts";
import { AppProcess } from "./app-process.ts";

/** What `npm test` provides; a test without it fails and says so. */
export function required(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: run the tests by "npm test"`);
  return value;
}

export interface FleetOptions {
  /** @default "bwrap" */
  readonly runtime?: "docker" | "bwrap";
  /** @default "file" */
  readonly store?: "file" | "s3";
  /** Merged over the agent's definition. */
  readonly agent?: Readonly<Record<string, unknown>>;
  /** More agents by name, each merged over the definition of `shell`, with a route of its own. */
  readonly agents?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Merged over the worker's settings. */
  readonly worker?: Readonly<Record<string, unknown>>;
  /** Merged over the tenant's limits. */
  readonly limits?: Readonly<Record<string, unknown>>;
  /** Of every route. */
  readonly destinations?: Readonly<Record<string, unknown>>;
  /** What the operator allows to be mounted. */
  readonly mounts?: readonly unknown[];
  /** The access policy of all agents. */
  readonly access?: Readonly<Record<string, string>>;
  /** Channels besides `http`, with a route each. */
  readonly channels?: Readonly<Record<string, unknown>>;
  /** Of the sources to run. @default this repository */
  readonly root?: string;
}

/** A fleet of real processes on a private Redis, with one tenant and the agent `shell`. */
export class Fleet implements AsyncDisposable {
  readonly directory: string;
  readonly redis: Redis;
  readonly key = randomBytes(24).toString("base64url");
  readonly operatorKey = randomBytes(24).toString("base64url");
  readonly environment: NodeJS.ProcessEnv;
  readonly processes: AppProcess[] = [];
  readonly #runDirectories = new Set<string>();
  readonly #options: FleetOptions;

  private constructor(directory: string, redis: Redis, options: FleetOptions) {
    this.directory = directory;
    this.redis = redis;
    this.#options = options;
    const s3 = options.store === "s3";
    this.environment = {
      LONGSHORE_CONFIG: join(directory, "longshore.yaml"),
      LONGSHORE_RUN_DIR: join(directory, "run"),
      REDIS_URL: redis.url,
      PORT: "0",
      METRICS_PORT: "0",
      LOG_LEVEL: "debug",
      DOCKER_HOST: required("DOCKER_HOST"),
      OBJECT_STORE_URL: s3
        ? `${required("OBJECT_STORE_URL")}/${randomBytes(6).toString("hex")}`
        : `file://${join(directory, "store")}`,
      ...(s3
        ? Object.fromEntries(
            ["S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"].map((name) => [
              name,
              required(name),
            ]),
          )
        : {}),
      ...(s3 ? { S3_FORCE_PATH_STYLE: "true" } : {}),
    };
  }

  static async start(options: FleetOptions = {}): Promise<Fleet> {
    const directory = await mkdtemp(join(tmpdir(), "longshore-test-"));
    // Sandboxes have users of their own, who must be able to pass.
    await chmod(directory, 0o711);
    const redis = await startRedis({ directory: join(directory, "redis") });
    const fleet = new Fleet(directory, redis, options);
    await fleet.configure();
    return fleet;
  }

  /**
   * Writes the configuration.
   *
   * @param change merged over the definitions of all agents
   */
  async configure(change: Readonly<Record<string, unknown>> = {}): Promise<void> {
    const {
      agents = {},
      worker = {},
      channels = {},
      limits = {},
      mounts = [],
      access = {},
      destinations = {},
    } = this.#options;
    const agent = { ...this.#options.agent, ...change };
    const hash = (key: string) => `sha256:${createHash("sha256").update(key).digest("hex")}`;
    const configuration = {
      tenants: {
        acme: {
          keys: [{ id: "test", hash: hash(this.key), scopes: ["send", "read", "operate"] }],
          limits: { messagesPerMinute: 1_000_000, runningTurns: 1_000, ...limits },
        },
      },
      operators: [{ id: "operator", hash: hash(this.operatorKey) }],
      agents: {
        shell: { ...this.#agent(agent), ...agent },
        ...Object.fromEntries(
          Object.entries(agents).map(([name, more]) => {
            const merged = { ...agent, ...more };
            return [name, { ...this.#agent(merged), ...merged }];
          }),
        ),
      },
      routes: ["http", ...Object.keys(channels)].flatMap((channel) =>
        ["shell", ...Object.keys(agents)].map((name) => ({
          ...{ channel, agent: name, session: "per-thread", destinations, operator: name === "operator" },
        })),
      ),
      channels: { http: {}, ...channels },
      mounts,
      access,
      worker: { places: 8, lease: "3s", drain: "10s", reaper: "1s", ...worker },
      dispatcher: { sweeper: "500ms" },
    };
    await writeFile(join(this.directory, "longshore.yaml"), stringify(configuration));
  }

  /** What every agent's definition begins with. */
  #agent({ runtime = this.#options.runtime ?? "bwrap" }: Readonly<Record<string, unknown>>): object {
    return {
      tenant: "acme",
      runtime,
      ...(runtime === "docker"
        ? { image: required("LONGSHORE_TEST_IMAGE") }
        : {
            rootfs: required("LONGSHORE_TEST_ROOTFS"),
            command: ["/usr/local/bin/node", "/opt/agent/main.js"],
          }),
      limits: { memory: "512MiB", cpus: 2, pids: 128 },
      retry: { attempts: 3, backoff: "100ms", longest: "1s" },
      linger: "5s",
    };
  }

  /** The failures of turns that workers logged: what to look at where a message took more than one attempt. */
  get failures(): unknown[] {
    const lines = this.processes.flatMap((process) => process.lines);
    return lines.filter(({ msg }) => msg === "turn failed").map(({ err }) => err);
  }

  async startDispatcher(environment: NodeJS.ProcessEnv = {}): Promise<{ process: AppProcess; api: Api }> {
    const process = this.#launch("dispatcher", environment);
    const ready = await process.line(({ msg }) => msg === "dispatcher ready");
    return { process, api: new Api(ready.url as string, this.key) };
  }

  async startWorker(environment: NodeJS.ProcessEnv = {}): Promise<AppProcess> {
    const process = this.#launch("worker", environment);
    await process.line(({ msg }) => msg === "worker ready");
    return process;
  }

  #launch(app: "dispatcher" | "worker", environment: NodeJS.ProcessEnv): AppProcess {
    const { root = repositoryRoot } = this.#options;
    const process = AppProcess.start(app, [join(root, "apps", app, "src/main.ts")], {
      ...this.environment,
      ...environment,
    });
    this.processes.push(process);
    this.#runDirectories.add((environment.LONGSHORE_RUN_DIR ?? this.environment.LONGSHORE_RUN_DIR) as string);
    return process;
  }

  /** Those of workers that were killed, where no other one of their run directory came to remove them. */
  async #removeContainers(): Promise<void> {
    const engine = engineAt(required("DOCKER_HOST"));
    const containers = await engine.listContainers({
      all: true,
      filters: { label: ["longshore.run-directory"] },
    });
    await Promise.all(
      containers
        .filter(({ Labels }) => Labels["longshore.run-directory"]?.startsWith(`${this.directory}/`))
        .map(({ Id }) => engine.getContainer(Id).remove({ force: true, v: true })),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.processes.map((process) => process.stop()));
    await this.#removeContainers();
    await Promise.all([...this.#runDirectories].map(removeSandboxTraces));
    await this.redis.stop();
    await unmountBelow(this.directory);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** What killed workers left of bubblewrap sandboxes: no other worker of their run directory may be there to see. */
async function removeSandboxTraces(runDirectory: string): Promise<void> {
  const runtime = new BwrapRuntime({ host: hostname(), runDirectory });
  await new Reaper({ runtimes: [runtime], runDirectory, isActivationLive: async () => false }).run();
}
