import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type FleetConfigurationOptions, fleetConfiguration, makeKey } from "./fleet-configuration.ts";
import { FleetProcess } from "./fleet-process.ts";
import { startRedis } from "./redis.ts";
import type { SetupContext } from "./setup-context.ts";

export interface LocalFleetOptions extends Omit<FleetConfigurationOptions, "key"> {
  /** For everything that the fleet writes; the caller's to remove. Every user can pass it. */
  readonly directory: string;
  /** Of the dispatcher's API; 0: a free one. */
  readonly port: number;
}

/**
 * A whole fleet on this machine: a private Redis, a `file://` object store, a dispatcher, and as many workers
 * as are started. Disposal ends all of it in order.
 */
export class LocalFleet implements AsyncDisposable {
  readonly #context: SetupContext;
  readonly #directory: string;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #stack: AsyncDisposableStack;
  #workers = 0;
  readonly dispatcher: FleetProcess;
  /** API key of the tenant `default`. */
  readonly key: string;

  /** Starts Redis and the dispatcher; @throws {SetupError} and leaves nothing running where that fails. */
  static async start(context: SetupContext, options: LocalFleetOptions): Promise<LocalFleet> {
    await using stack = new AsyncDisposableStack();
    const { directory, sandbox, port } = options;
    const at = (name: string) => join(directory, name);
    await mkdir(at("store"), { recursive: true });
    const redis = stack.use(await startRedis({ directory: at("redis"), signal: context.signal }));
    const key = makeKey();
    await writeFile(at("longshore.yaml"), fleetConfiguration({ ...options, key }), { mode: 0o600 });
    const environment = {
      ...withoutFleetVariables(process.env),
      REDIS_URL: redis.url,
      OBJECT_STORE_URL: pathToFileURL(at("store")).href,
      LONGSHORE_CONFIG: at("longshore.yaml"),
      LONGSHORE_RUN_DIR: at("run"),
      METRICS_PORT: "0",
      ...(sandbox.runtime === "docker" ? { DOCKER_HOST: sandbox.engine } : {}),
    };
    const dispatcher = stack.use(
      await FleetProcess.start({
        app: "dispatcher",
        logFile: at("dispatcher.log"),
        environment: { ...environment, PORT: String(port) },
        signal: context.signal,
      }),
    );
    return new LocalFleet(context, directory, environment, stack.move(), dispatcher, key);
  }

  private constructor(
    context: SetupContext,
    directory: string,
    environment: NodeJS.ProcessEnv,
    stack: AsyncDisposableStack,
    dispatcher: FleetProcess,
    key: string,
  ) {
    this.#context = context;
    this.#directory = directory;
    this.#environment = environment;
    this.#stack = stack;
    this.dispatcher = dispatcher;
    this.key = key;
  }

  /** Address of the HTTP API. */
  get url(): string {
    return String(this.dispatcher.ready.url);
  }

  /** The variables that name this fleet's parts, for whatever else is to join it. */
  get environment(): NodeJS.ProcessEnv {
    return { ...this.#environment };
  }

  /** Starts one more worker. */
  async startWorker(): Promise<FleetProcess> {
    this.#workers += 1;
    const name = `worker-${this.#workers}`;
    return this.#stack.use(
      await FleetProcess.start({
        app: "worker",
        logFile: join(this.#directory, `${name}.log`),
        environment: { ...this.#environment, LONGSHORE_WORKER_ID: name },
        signal: this.#context.signal,
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** What a user's shell says of another fleet must not reach this one. */
function withoutFleetVariables(variables: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const names = /^(LONGSHORE_|REDIS_URL$|OBJECT_STORE_URL$|S3_|AWS_|PORT$|HOST$|METRICS_|DOCKER_HOST$)/;
  return Object.fromEntries(Object.entries(variables).filter(([name]) => !names.test(name)));
}
