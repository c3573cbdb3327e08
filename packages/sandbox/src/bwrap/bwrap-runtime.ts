import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdir, rename, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import type { Covers } from "../access-mounts.ts";
import {
  RuntimeUnavailableError,
  SandboxSpecError,
  SandboxStartError,
  SandboxStuckError,
} from "../errors.ts";
import { type HelperPrograms, installHelpers } from "../helper/install-helper.ts";
import { SandboxSockets } from "../helper/sandbox-sockets.ts";
import { untilProgramRuns } from "../helper/until-program-runs.ts";
import { HOST_PROGRAM, hostProgramProblem } from "../host-program.ts";
import { installCovers } from "../install-covers.ts";
import { resolveLimits } from "../limits.ts";
import type {
  IsLive,
  ReapFailure,
  ReapResult,
  RuntimeReport,
  Sandbox,
  SandboxLabels,
  SandboxRuntime,
  SandboxSpec,
  SandboxUser,
} from "../sandbox.ts";
import { validateSpec } from "../validate-spec.ts";
import { BwrapSandbox } from "./bwrap-sandbox.ts";
import { BwrapStatus } from "./bwrap-status.ts";
import type { CgroupTree } from "./cgroup.ts";
import { detectCgroups } from "./detect-cgroups.ts";
import { findHostTools, type HostTools } from "./host-tools.ts";
import { launch } from "./launch.ts";
import { CgroupProcesses, FoundProcesses, type ProcessGroup } from "./process-group.ts";
import { findSandboxProcesses } from "./processes.ts";
import { formatSandboxName, parseSandboxName, runKeyOf } from "./sandbox-name.ts";
import { SandboxRecords } from "./sandbox-records.ts";
import { seccompFilter } from "./seccomp.ts";
import { startThawGuard } from "./thaw-guard.ts";

const REAP_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 10_000;

export interface BwrapRuntimeOptions {
  /** This host's name, as in the labels of its sandboxes. */
  readonly host: string;
  /** The fleet's run directory on this host: absolute, and every directory above it open to pass (`o+x`). */
  readonly runDirectory: string;
  /** Root of a sandbox whose specification names none: `"host"` or an unpacked image. @default "host" */
  readonly defaultRootfs?: string;
  /** Programs of the host to use. @default those that are found where Debian puts them */
  readonly tools?: HostTools;
  /** Control groups to use. @default those that this process may write; null for none */
  readonly cgroups?: CgroupTree | null;
}

/** Sandboxes by bubblewrap: namespaces, a seccomp filter, control groups and no daemon. */
export class BwrapRuntime implements SandboxRuntime {
  readonly name = "bwrap";
  readonly #options: BwrapRuntimeOptions;
  readonly #records: SandboxRecords;
  #cgroups: CgroupTree | null | undefined;
  #preparation: Promise<Prepared> | undefined;
  readonly #guarded = new Set<string>();

  constructor(options: BwrapRuntimeOptions) {
    this.#options = options;
    this.#records = new SandboxRecords(options.runDirectory);
    this.#cgroups = options.cgroups;
  }

  async check(signal?: AbortSignal): Promise<RuntimeReport> {
    signal?.throwIfAborted();
    const { tools } = await this.#prepare();
    const version = await probe(tools, signal);
    return { version, weaknesses: this.#weaknesses() };
  }

  foresee({ worker, nonce }: Pick<SandboxLabels, "worker" | "nonce">): void {
    const tree = this.#tree();
    const name = formatSandboxName({ runKey: runKeyOf(this.#options.runDirectory), worker, nonce });
    // The groups first: while the kernel gets ready for a process to join, none can be made. What fails here, fails again there.
    tree
      ?.sandbox(name)
      .make()
      .then(() => tree.foresee())
      .catch(() => undefined);
  }

  async start(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox> {
    validateSpec(spec);
    const command = spec.command;
    if (command === undefined) throw new SandboxSpecError("command", "needed by the bwrap runtime");
    requireOwnUser(spec.user);
    const rootfs = spec.rootfs ?? this.#options.defaultRootfs ?? "host";
    await Promise.all([
      requirePassable("slotDirectory", spec.slotDirectory, spec.user),
      rootfs === "host" ? undefined : requirePassable("rootfs", rootfs, spec.user),
    ]);
    const { tools, seccompPath, helpers, covers } = await this.#prepare();
    signal?.throwIfAborted();

    const { worker, nonce } = spec.labels;
    const marker = formatSandboxName({ runKey: runKeyOf(this.#options.runDirectory), worker, nonce });
    const cgroup = this.#tree()?.sandbox(marker);
    this.#guard(worker, tools.shell);
    let sockets: SandboxSockets | undefined;
    const forget = async () => {
      await sockets?.close();
      await cgroup?.remove();
      await this.#records.remove(worker, nonce);
    };
    let sandbox: BwrapSandbox | undefined;
    try {
      await this.#records.write(spec.labels);
      const creating = cgroup?.create(resolveLimits(spec.limits));
      const opening = SandboxSockets.open(this.#options.runDirectory, spec);
      // Both are over before anything is cleaned up.
      await Promise.allSettled([creating, opening]);
      sockets = await opening;
      await creating;
      signal?.throwIfAborted();
      const helper = { programs: helpers, covers, sockets: sockets.directory };
      const launched = launch({ spec, command, rootfs, helper, marker, tools, seccompPath, cgroup });
      const status = new BwrapStatus(launched.status);
      sandbox = new BwrapSandbox({ id: marker, launched, status, processes: this.#group(marker), forget });
      await Promise.race([
        untilProgramRuns(sandbox, sockets.lifeline, signal),
        once(launched.child, "error").then(([error]) => {
          throw new SandboxStartError("the launcher can't be run", { cause: error });
        }),
      ]);
      return sandbox;
    } catch (error) {
      await (sandbox ? sandbox.destroy() : forget()).catch((cleanUpError: unknown) => {
        if (!(cleanUpError instanceof SandboxStuckError)) throw cleanUpError;
      });
      throw error;
    }
  }

  async reap(isLive: IsLive): Promise<ReapResult> {
    const removed: SandboxLabels[] = [];
    const stuck: ReapFailure[] = [];
    for (const labels of await this.#found()) {
      if (await isLive(labels)) continue;
      const id = formatSandboxName({ runKey: runKeyOf(this.#options.runDirectory), ...labels });
      try {
        await this.#end(id, labels);
        removed.push(labels);
      } catch (error) {
        stuck.push({ id, error });
      }
    }
    return { removed, stuck };
  }

  /** Everything that a sandbox may have left, by its record, control groups or processes. */
  async #found(): Promise<SandboxLabels[]> {
    const runKey = runKeyOf(this.#options.runDirectory);
    const found = new Map<string, SandboxLabels>();
    const add = (labels: SandboxLabels) => {
      const key = `${labels.worker} ${labels.nonce}`;
      if (!found.has(key)) found.set(key, labels);
    };
    for (const labels of await this.#records.list()) add(labels);
    const unlabelled = { host: this.#options.host, tenant: "", sessionId: "", epoch: 0 };
    for (const text of (await this.#tree()?.list()) ?? []) {
      const name = parseSandboxName(text);
      if (name?.runKey === runKey) add({ ...unlabelled, worker: name.worker, nonce: name.nonce });
    }
    for (const { worker, nonce } of await findSandboxProcesses(this.#options.runDirectory)) {
      add({ ...unlabelled, worker, nonce });
    }
    return [...found.values()];
  }

  async #end(id: string, { worker, nonce }: SandboxLabels): Promise<void> {
    const cgroup = this.#tree()?.sandbox(id);
    const visible = new FoundProcesses(this.#options.runDirectory, nonce);
    const started = performance.now();
    for (;;) {
      const inGroup = cgroup ? await new CgroupProcesses(cgroup, visible).kill(undefined) : 0;
      const left = inGroup + (await visible.kill(undefined));
      if (left === 0) break;
      if (performance.now() - started > REAP_TIMEOUT_MS) {
        throw new SandboxStuckError(id, `${left} processes are left after ${REAP_TIMEOUT_MS} ms of SIGKILL`);
      }
      await delay(5);
    }
    await cgroup?.remove();
    await this.#records.remove(worker, nonce);
  }

  /** One guard for each worker id, which is one for the process. */
  #guard(worker: string, shell: string): void {
    const groups = this.#tree()?.deafFreezer;
    if (groups === undefined || this.#guarded.has(worker)) return;
    this.#guarded.add(worker);
    const prefix = formatSandboxName({ runKey: runKeyOf(this.#options.runDirectory), worker, nonce: "" });
    startThawGuard({ shell, groups, prefix });
  }

  #group(id: string): ProcessGroup {
    const nonce = parseSandboxName(id)?.nonce ?? id;
    const visible = new FoundProcesses(this.#options.runDirectory, nonce);
    const cgroup = this.#tree()?.sandbox(id);
    return cgroup ? new CgroupProcesses(cgroup, visible) : visible;
  }

  #tree(): CgroupTree | null {
    if (this.#cgroups === undefined) this.#cgroups = detectCgroups() ?? null;
    return this.#cgroups;
  }

  #weaknesses(): string[] {
    const tree = this.#tree();
    if (tree === null) {
      return [
        "no control group can be written: memory and processes are limited per process and user only, processor time not at all; give the worker a delegated cgroup (systemd: Delegate=yes)",
      ];
    }
    return Object.entries(tree.abilities)
      .filter(([, isThere]) => !isThere)
      .map(
        ([ability]) => `the cgroup controller "${ability}" can't be used: mount it writable or delegate it`,
      );
  }

  /** Finds the tools and writes the filter, once; tried again after a failure. */
  #prepare(): Promise<Prepared> {
    this.#preparation ??= prepare(this.#options).catch((error: unknown) => {
      this.#preparation = undefined;
      throw error;
    });
    return this.#preparation;
  }
}

interface Prepared {
  readonly tools: HostTools;
  readonly seccompPath: string;
  readonly helpers: HelperPrograms;
  readonly covers: Covers;
}

async function prepare({ runDirectory, tools = findHostTools() }: BwrapRuntimeOptions): Promise<Prepared> {
  const problem = await hostProgramProblem();
  if (problem !== undefined) throw new RuntimeUnavailableError("bwrap", [problem]);
  const helpers = await installHelpers(runDirectory, "bwrap");
  const covers = await installCovers(runDirectory);
  const directory = join(runDirectory, "bwrap");
  await mkdir(directory, { recursive: true, mode: 0o711 });
  const seccompPath = join(directory, "seccomp.bpf");
  const temporary = `${seccompPath}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  await writeFile(temporary, seccompFilter(process.arch), { mode: 0o600 });
  await rename(temporary, seccompPath);
  return { tools, seccompPath, helpers, covers };
}

/** Without root nobody can become another user. */
function requireOwnUser(user: SandboxUser): void {
  const own = process.getuid?.();
  if (own !== 0 && own !== user.uid) {
    throw new SandboxSpecError(
      "user.uid",
      `a worker that is not root can run sandboxes as its own user ${own} only, not as ${user.uid}`,
    );
  }
}

/** bubblewrap looks the path up as the sandbox's user. */
async function requirePassable(field: string, path: string, user: SandboxUser): Promise<void> {
  for (let directory = dirname(path); ; directory = dirname(directory)) {
    let status: Awaited<ReturnType<typeof stat>>;
    try {
      status = await stat(directory);
    } catch (error) {
      throw new SandboxSpecError(field, `${directory}: ${(error as Error).message}`);
    }
    const bit = status.uid === user.uid ? 0o100 : status.gid === user.gid ? 0o010 : 0o001;
    if ((status.mode & bit) === 0) {
      throw new SandboxSpecError(
        field,
        `the sandbox's user ${user.uid} can't pass ${directory}: chmod o+x it, or use a directory elsewhere`,
      );
    }
    if (directory === "/") return;
  }
}

/** Runs an empty sandbox, since having bubblewrap says nothing about being allowed to use it. */
async function probe(tools: HostTools, signal: AbortSignal | undefined): Promise<string> {
  const run = promisify(execFile);
  const options = { timeout: PROBE_TIMEOUT_MS, env: {}, ...(signal ? { signal } : {}) };
  const words = [
    "launch",
    ...(process.getuid?.() === 0 ? ["user", "65534", "65534"] : []),
    ...["--", tools.bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"],
    ...["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", "/bin/true"],
  ];
  try {
    const { stdout } = await run(tools.bwrap, ["--version"], options);
    await run(HOST_PROGRAM, words, options);
    return stdout.trim();
  } catch (error) {
    signal?.throwIfAborted();
    throw new RuntimeUnavailableError(
      "bwrap",
      [explainProbe(String((error as { stderr?: string }).stderr ?? error))],
      error,
    );
  }
}

function explainProbe(message: string): string {
  const said = message.trim().slice(0, 500);
  const advice = /disable-userns|Unknown option/.test(said)
    ? "install bubblewrap 0.8 or newer"
    : "allow unprivileged user namespaces (sysctl user.max_user_namespaces > 0, kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0); in a container also allow them in its seccomp profile and mount /proc unmasked";
  return `an empty sandbox failed with "${said}": ${advice}`;
}
