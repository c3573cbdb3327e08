import { Agent } from "node:http";
import type { Socket } from "node:net";
import Docker, {
  type ContainerCreateOptions,
  type ContainerInfo,
  type ContainerInspectInfo,
  type DockerOptions,
} from "dockerode";
import { withDeadline } from "../deadline.ts";
import { EngineCallError, EngineTimeoutError, EngineUnreachableError } from "../errors.ts";
import { type EngineAddress, parseEngineAddress } from "./address.ts";
import { attachStream } from "./attach.ts";
import { waitForExitStatus } from "./wait.ts";

export interface EngineOptions {
  /** `unix:///path` or `tcp://host:port`, as `DOCKER_HOST` has it. */
  readonly address: string;
  /** Deadline of each call but `waitForExit`, in milliseconds. @default 30000 */
  readonly callTimeoutMs?: number;
}

/** What the engine says of itself. */
export interface EngineInfo {
  readonly serverVersion: string;
  readonly isPodman: boolean;
  readonly runtimes: readonly string[];
  readonly securityOptions: readonly string[];
  readonly cgroupVersion: string;
  readonly limitsMissing: readonly string[];
}

/**
 * The Engine API as far as sandboxes need it: every call with a deadline, every failure one of
 * `EngineUnreachableError`, `EngineTimeoutError` and `EngineCallError`.
 */
export class Engine {
  readonly address: string;
  readonly #endpoint: EngineAddress;
  readonly #docker: Docker;
  readonly #callTimeoutMs: number;

  constructor(options: EngineOptions) {
    this.address = options.address;
    this.#endpoint = parseEngineAddress(options.address);
    this.#callTimeoutMs = options.callTimeoutMs ?? 30_000;
    // Every address field is given, so that the library's own reading of DOCKER_HOST can't mix in. No
    // kept-alive connections: the first call after an engine's restart would fail on a dead one.
    const connection: DockerOptions & { agent: Agent } = {
      protocol: "http",
      agent: new Agent({ keepAlive: false }),
      ...("socketPath" in this.#endpoint
        ? { socketPath: this.#endpoint.socketPath, host: undefined, port: undefined }
        : { socketPath: undefined, host: this.#endpoint.hostname, port: this.#endpoint.port }),
    };
    this.#docker = new Docker(connection);
  }

  async info(): Promise<EngineInfo> {
    const facts = await this.#call("info", (abortSignal) => {
      // The declared type lacks the options that the method takes.
      const docker = this.#docker as { info(options: { abortSignal: AbortSignal }): Promise<unknown> };
      return docker.info({ abortSignal }) as Promise<Record<string, unknown>>;
    });
    const { Components = [] } = await this.#call("version", () => this.#docker.version());
    const runtimes = facts.Runtimes as Record<string, unknown> | undefined;
    const limits = { MemoryLimit: "memory", PidsLimit: "pids", CpuCfsQuota: "cpu" };
    return {
      serverVersion: String(facts.ServerVersion),
      isPodman: Components.some(({ Name }) => Name === "Podman Engine"),
      runtimes: Object.keys(runtimes ?? {}),
      securityOptions: (facts.SecurityOptions as string[] | undefined) ?? [],
      cgroupVersion: String(facts.CgroupVersion ?? "unknown"),
      limitsMissing: Object.entries(limits)
        .filter(([field]) => facts[field] === false)
        .map(([, limit]) => limit),
    };
  }

  /** What an image runs by itself: its entrypoint and what follows it. */
  async imageCommand(image: string): Promise<readonly string[]> {
    // The method takes no signal: at the deadline the request is left alone.
    const { Config } = await this.#call("inspect image", () => this.#docker.getImage(image).inspect());
    const { Entrypoint, Cmd } = Config as { readonly Entrypoint?: unknown; readonly Cmd?: unknown };
    return [Entrypoint, Cmd].flatMap((words) => (words ?? []) as string | string[]);
  }

  /** Creates a container and returns its id. */
  async create(name: string, options: ContainerCreateOptions): Promise<string> {
    const container = await this.#call("create", (abortSignal) => {
      // Without these two fields the library puts all options, the environment included, into the URL too.
      const split: ContainerCreateOptions & { _query: object; _body: object } = {
        _query: { name },
        _body: options,
        abortSignal,
      };
      return this.#docker.createContainer(split);
    });
    return container.id;
  }

  /** The container's three streams; to be taken before `start`, so that no byte is lost. */
  attach(id: string): Promise<{ readonly socket: Socket; readonly head: Buffer }> {
    return this.#call("attach", (signal) => attachStream(this.#endpoint, id, signal));
  }

  async start(id: string): Promise<void> {
    await this.#call("start", (abortSignal) => this.#docker.getContainer(id).start({ abortSignal }));
  }

  /** Resolves to the exit status when the container has ended. No deadline: `signal` ends the waiting. */
  async waitForExit(id: string, abortSignal: AbortSignal): Promise<number> {
    try {
      return await waitForExitStatus(this.#endpoint, id, abortSignal);
    } catch (error) {
      throw this.#typed("wait", error);
    }
  }

  inspect(id: string): Promise<ContainerInspectInfo> {
    return this.#call("inspect", (abortSignal) => this.#docker.getContainer(id).inspect({ abortSignal }));
  }

  /**
   * Whether the engine has told of a container that its memory ran out, from one moment of the engine's
   * clock until another, which may be to come: it is waited for. Both in seconds since 1970.
   */
  wasOutOfMemory(id: string, since: number, until: number): Promise<boolean> {
    return this.#call("events", async (abortSignal) => {
      const events = await this.#docker.getEvents({
        since,
        until,
        filters: { type: ["container"], event: ["oom"], container: [id] },
        abortSignal,
      });
      for await (const _event of events) return true;
      return false;
    });
  }

  async kill(id: string, signal: string): Promise<void> {
    await this.#call("kill", (abortSignal) => this.#docker.getContainer(id).kill({ signal, abortSignal }));
  }

  async pause(id: string): Promise<void> {
    await this.#call("pause", (abortSignal) => this.#docker.getContainer(id).pause({ abortSignal }));
  }

  async unpause(id: string): Promise<void> {
    await this.#call("unpause", (abortSignal) => this.#docker.getContainer(id).unpause({ abortSignal }));
  }

  /** Removes a container by force, with its anonymous volumes. */
  async remove(idOrName: string, timeoutMs?: number): Promise<void> {
    await this.#call(
      "remove",
      (abortSignal) => this.#docker.getContainer(idOrName).remove({ force: true, v: true, abortSignal }),
      timeoutMs,
    );
  }

  /** All containers, also ended ones, that have every one of the labels (`name=value`). */
  list(labels: readonly string[]): Promise<ContainerInfo[]> {
    return this.#call("list", (abortSignal) =>
      this.#docker.listContainers({ all: true, filters: { label: [...labels] }, abortSignal }),
    );
  }

  async #call<T>(
    operation: string,
    run: (signal: AbortSignal) => Promise<T>,
    timeoutMs = this.#callTimeoutMs,
  ): Promise<T> {
    try {
      return await withDeadline(operation, timeoutMs, run);
    } catch (error) {
      throw this.#typed(operation, error);
    }
  }

  #typed(operation: string, error: unknown): Error {
    if (error instanceof EngineTimeoutError) return error;
    if (!(error instanceof Error)) return new EngineUnreachableError(this.address, error);
    const status =
      "statusCode" in error && typeof error.statusCode === "number" ? error.statusCode : undefined;
    return status === undefined
      ? new EngineUnreachableError(this.address, error)
      : new EngineCallError(operation, status, error);
  }
}
