import { existsSync } from "node:fs";
import type { ContainerCreateOptions } from "dockerode";
import type { Covers } from "../access-mounts.ts";
import {
  EngineCallError,
  EngineTimeoutError,
  EngineUnreachableError,
  ImageMissingError,
  RuntimeUnavailableError,
  SandboxSpecError,
  SandboxStartError,
  SandboxStuckError,
} from "../errors.ts";
import { type HelperPrograms, installHelpers } from "../helper/install-helper.ts";
import { SandboxSockets } from "../helper/sandbox-sockets.ts";
import { untilProgramRuns } from "../helper/until-program-runs.ts";
import { installCovers } from "../install-covers.ts";
import type {
  IsLive,
  ReapFailure,
  ReapResult,
  RuntimeReport,
  Sandbox,
  SandboxLabels,
  SandboxRuntime,
  SandboxSpec,
} from "../sandbox.ts";
import { validateSpec } from "../validate-spec.ts";
import { type ContainerParts, containerOptions } from "./container-options.ts";
import { DockerSandbox, takeStreams } from "./docker-sandbox.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import { labelFilter, labelsOfContainer } from "./labels.ts";
import { removeContainer } from "./remove-container.ts";

const NOT_FOUND = 404;

export interface DockerRuntimeOptions extends EngineOptions {
  /** This host's name, as in the labels of its sandboxes. */
  readonly host: string;
  /** The fleet's run directory on this host; sandboxes of other run directories are never touched. */
  readonly runDirectory: string;
  /** OCI runtimes that the agents' definitions name; `check` looks for them. @default none */
  readonly requiredRuntimes?: readonly string[];
}

/** Sandboxes as containers of Docker or Podman. */
export class DockerRuntime implements SandboxRuntime {
  readonly name = "docker";
  readonly #engine: Engine;
  readonly #options: DockerRuntimeOptions;
  #installation: Promise<Installed> | undefined;

  constructor(options: DockerRuntimeOptions) {
    this.#options = options;
    this.#engine = new Engine(options);
  }

  async check(signal?: AbortSignal): Promise<RuntimeReport> {
    signal?.throwIfAborted();
    const info = await this.#engine.info();
    await this.#installed();
    const missing = (this.#options.requiredRuntimes ?? []).filter(
      (runtime) => !info.runtimes.includes(runtime),
    );
    if (missing.length > 0) {
      throw new RuntimeUnavailableError(
        this.name,
        missing.map(
          (runtime) =>
            `the engine has no OCI runtime "${runtime}" (it has ${info.runtimes.join(", ")}): install it and add it under "runtimes" in the engine's daemon.json`,
        ),
      );
    }
    const weaknesses = info.limitsMissing.map(
      (limit) => `the engine can't limit ${limit}: enable the ${limit} cgroup controller on its host`,
    );
    if (!info.securityOptions.some((option) => option.includes("seccomp"))) {
      weaknesses.push("the engine has no seccomp: use a kernel and an engine built with it");
    }
    if (info.isPodman) {
      weaknesses.push(
        "Podman's own seccomp profile lets programs make user namespaces, in which more of the kernel is in reach: name a stricter one in containers.conf (seccomp_profile), or use Docker",
      );
    }
    const engine = info.isPodman ? "Podman" : "Docker Engine API, server";
    return { version: `${engine} ${info.serverVersion}`, weaknesses };
  }

  async start(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox> {
    validateSpec(spec);
    if (spec.image === undefined) throw new SandboxSpecError("image", "needed by the docker runtime");
    signal?.throwIfAborted();
    const { runDirectory } = this.#options;
    const { image } = spec;
    const [{ helpers, covers }, command] = await Promise.all([
      this.#installed(),
      this.#commandOf(image, spec.command),
    ]);
    // Podman would make the directory, and show the agent an empty session.
    if (!existsSync(spec.slotDirectory)) throw new SandboxStartError(`${spec.slotDirectory} is missing`);
    const sockets = await SandboxSockets.open(runDirectory, spec);
    try {
      signal?.throwIfAborted();
      const parts = { runDirectory, command, helpers, covers, socketsDirectory: sockets.directory };
      return await this.#run(spec, image, parts, sockets, signal);
    } catch (error) {
      await sockets.close();
      throw startErrorOf(error);
    }
  }

  async #run(
    spec: SandboxSpec,
    image: string,
    parts: ContainerParts,
    sockets: SandboxSockets,
    signal: AbortSignal | undefined,
  ): Promise<Sandbox> {
    const id = await this.#create(`longshore-${spec.labels.nonce}`, image, containerOptions(spec, parts));
    let sandbox: DockerSandbox | undefined;
    try {
      if (spec.ociRuntime !== undefined) await this.#requireRuntime(id, spec.ociRuntime);
      signal?.throwIfAborted();
      const { socket, head } = await this.#engine.attach(id);
      const stream = takeStreams(socket, head);
      try {
        signal?.throwIfAborted();
        await this.#engine.start(id);
      } catch (error) {
        socket.destroy();
        throw error;
      }
      sandbox = new DockerSandbox(this.#engine, id, stream, () => sockets.close());
      await untilProgramRuns(sandbox, sockets.lifeline, signal);
      return sandbox;
    } catch (error) {
      await this.#cleanUp(id, sandbox);
      throw error;
    }
  }

  /** Put there once, and tried again after a failure. */
  #installed(): Promise<Installed> {
    this.#installation ??= install(this.#options.runDirectory, this.name).catch((error: unknown) => {
      this.#installation = undefined;
      throw error;
    });
    return this.#installation;
  }

  /** The helper takes the place of the image's own entrypoint, so that has to be known. */
  async #commandOf(image: string, command: readonly string[] | undefined): Promise<readonly string[]> {
    if (command !== undefined) return command;
    try {
      const own = await this.#engine.imageCommand(image);
      if (own.length > 0) return own;
    } catch (error) {
      throw startErrorOf(imageErrorOf(image, error));
    }
    throw new SandboxSpecError("command", "needed, since the image has none of its own");
  }

  async reap(isLive: IsLive): Promise<ReapResult> {
    const { host, runDirectory } = this.#options;
    const removed: SandboxLabels[] = [];
    const stuck: ReapFailure[] = [];
    for (const container of await this.#engine.list(labelFilter(host, runDirectory))) {
      const labels = labelsOfContainer(container.Labels);
      if (labels === undefined || (await isLive(labels))) continue;
      try {
        await removeContainer(this.#engine, container.Id, container.State === "paused");
        removed.push(labels);
      } catch (error) {
        if (error instanceof EngineUnreachableError) throw error;
        stuck.push({ id: container.Id, error });
      }
    }
    return { removed, stuck };
  }

  async #create(name: string, image: string, options: ContainerCreateOptions): Promise<string> {
    try {
      return await this.#engine.create(name, options);
    } catch (error) {
      // The engine may have made it after all, or still make it; if so and it is too slow for this
      // attempt, the reaper finds it by its labels.
      if (error instanceof EngineTimeoutError) await this.#cleanUp(name, undefined);
      throw imageErrorOf(image, error);
    }
  }

  /** Podman takes no notice of what is asked for: an agent that is to run in gVisor must not run in anything less. */
  async #requireRuntime(id: string, wanted: string): Promise<void> {
    const { HostConfig } = await this.#engine.inspect(id);
    const { Runtime: given } = HostConfig as typeof HostConfig & { readonly Runtime?: string };
    if (given === wanted) return;
    const reason = `the engine would run it by ${JSON.stringify(given)} instead: name the runtime in the engine's own configuration, and none here`;
    throw new SandboxSpecError("ociRuntime", reason);
  }

  /** Leaves what can't be removed now to the reaper: the error of the start is what the caller must see. */
  async #cleanUp(idOrName: string, sandbox: DockerSandbox | undefined): Promise<void> {
    try {
      await (sandbox ? sandbox.destroy() : removeContainer(this.#engine, idOrName, false));
    } catch (error) {
      if (!(error instanceof EngineUnreachableError || error instanceof SandboxStuckError)) throw error;
    }
  }
}

/** What every sandbox is shown of the host. */
interface Installed {
  readonly helpers: HelperPrograms;
  readonly covers: Covers;
}

async function install(runDirectory: string, runtime: string): Promise<Installed> {
  const [helpers, covers] = await Promise.all([
    installHelpers(runDirectory, runtime),
    installCovers(runDirectory),
  ]);
  return { helpers, covers };
}

function imageErrorOf(image: string, error: unknown): unknown {
  const isMissing = error instanceof EngineCallError && error.status === NOT_FOUND;
  return isMissing ? new ImageMissingError(image, error) : error;
}

function startErrorOf(error: unknown): unknown {
  if (!(error instanceof EngineCallError)) return error;
  return new SandboxStartError(error.message, { retryable: error.status >= 500, cause: error });
}
