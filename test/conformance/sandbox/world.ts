import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  type DiskQuota,
  type Sandbox,
  type SandboxExit,
  type SandboxLabels,
  type SandboxRuntime,
  type SandboxSpec,
  type SandboxUser,
  SandboxUsers,
  SlotDisks,
  Slots,
  WorkerPresence,
} from "@longshore/sandbox";
import { HOST, type Platform } from "./platforms.ts";

const MIB = 1024 ** 2;
const QUOTA: DiskQuota = { bytes: 256 * MIB, files: 10_000 };
export const LIMITS = { memoryBytes: 256 * MIB, cpus: 2, pids: 64 };

/** One worker on a run directory of its own, with all that it started. */
export class World {
  readonly platform: Platform;
  readonly runtime: SandboxRuntime;
  readonly runDirectory: string;
  readonly workerId: string;
  readonly slots: Slots;
  readonly users: SandboxUsers;
  readonly #presence: WorkerPresence;
  readonly #sandboxes: Sandbox[] = [];
  readonly #slots = new Set<string>();

  private constructor(
    platform: Platform,
    runDirectory: string,
    workerId: string,
    presence: WorkerPresence,
    disks: SlotDisks,
  ) {
    this.platform = platform;
    this.runDirectory = runDirectory;
    this.workerId = workerId;
    this.runtime = platform.runtime(runDirectory);
    this.slots = new Slots(runDirectory, workerId, disks);
    // A range of this process alone: other fleets of the machine have run directories and claims of their own.
    this.users = new SandboxUsers({ runDirectory, workerId, firstUid: 1_000_000 + process.pid * 1_000 });
    this.#presence = presence;
  }

  static async open(platform: Platform, inRunDirectory?: string): Promise<World> {
    const runDirectory = inRunDirectory ?? (await mkdtemp(join(tmpdir(), "longshore-sandbox-")));
    await chmod(runDirectory, 0o711);
    const workerId = `worker-${randomBytes(6).toString("hex")}`;
    const presence = await WorkerPresence.announce(runDirectory, workerId);
    const disks = await SlotDisks.open(runDirectory, workerId);
    return new World(platform, runDirectory, workerId, presence, disks);
  }

  labels(): SandboxLabels {
    const nonce = randomBytes(8).toString("hex");
    return { host: HOST, worker: this.workerId, tenant: "tenant", sessionId: "session", epoch: 1, nonce };
  }

  /** A specification with a fresh user and slot. */
  async spec(command: readonly string[], change: Partial<SandboxSpec> = {}): Promise<SandboxSpec> {
    const labels = change.labels ?? this.labels();
    const user = change.user ?? (await this.users.acquire());
    return {
      ...this.platform.spec,
      labels,
      command,
      env: {},
      workingDirectory: "/session/workspace",
      slotDirectory: change.slotDirectory ?? (await this.slot(labels.nonce, user)),
      user,
      limits: LIMITS,
      ...change,
    };
  }

  /** A furnished slot. @param quota of what is in it; none where it is null */
  async slot(nonce: string, user: SandboxUser, quota: DiskQuota | null = QUOTA): Promise<string> {
    const { name: runtime } = this.runtime;
    this.#slots.add(nonce);
    const path = await this.slots.create(nonce, user, quota === null ? undefined : { runtime, quota });
    return path;
  }

  async start(command: readonly string[], change: Partial<SandboxSpec> = {}): Promise<Sandbox> {
    const sandbox = await this.runtime.start(await this.spec(command, change));
    this.#sandboxes.push(sandbox);
    return sandbox;
  }

  /** What is left of sandboxes' sockets. */
  async socketDirectories(): Promise<string[]> {
    return readdir(join(this.runDirectory, "workers", this.workerId, "sockets"));
  }

  /** Runs a shell script to its end and tells all of it. */
  async run(script: string, change: Partial<SandboxSpec> = {}): Promise<Outcome> {
    const sandbox = await this.start(["sh", "-c", script], change);
    sandbox.stdin.end();
    const stdout = await readAll(sandbox);
    return { exit: await sandbox.exited, stdout, stderr: sandbox.stderrTail() };
  }

  /** Ends the announcement and leaves all the rest, as a kill does. */
  async abandon(): Promise<void> {
    await this.#presence.close();
  }

  /** Destroys all sandboxes and the run directory, so that a test that failed leaves nothing. */
  async close(): Promise<void> {
    await Promise.all(this.#sandboxes.map((sandbox) => sandbox.destroy()));
    for (const slot of this.#slots) await this.slots.remove(slot);
    await this.users.close();
    await this.#presence.close();
    await rm(this.runDirectory, { recursive: true, force: true });
  }
}

export interface Outcome {
  readonly exit: SandboxExit;
  readonly stdout: string;
  readonly stderr: string;
}

export async function readAll(sandbox: Sandbox): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of sandbox.stdout) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** Reads standard output until it holds the text. */
export async function readUntil(sandbox: Sandbox, text: string): Promise<string> {
  let seen = "";
  const found = Promise.withResolvers<string>();
  const take = (chunk: Buffer) => {
    seen += chunk.toString();
    if (seen.includes(text)) found.resolve(seen);
  };
  const end = () =>
    found.reject(new Error(`it ended before ${JSON.stringify(text)}: ${seen}${sandbox.stderrTail()}`));
  sandbox.stdout.on("data", take);
  sandbox.stdout.once("end", end);
  sandbox.stdout.resume();
  try {
    return await found.promise;
  } finally {
    sandbox.stdout.off("data", take);
    sandbox.stdout.off("end", end);
    sandbox.stdout.pause();
  }
}

/** Waits for what comes by itself, at most 30 s. */
export async function eventually(condition: () => Promise<boolean> | boolean, what: string): Promise<void> {
  for (const start = performance.now(); performance.now() - start < 30_000; await delay(50)) {
    if (await condition()) return;
  }
  throw new Error(`not within 30 s: ${what}`);
}

/** The content of a file of a sandbox's session, empty where there is none yet. */
export async function sessionFile(spec: SandboxSpec, name: string): Promise<string> {
  return readFile(join(spec.slotDirectory, "workspace", name), "utf8").catch(() => "");
}

/** Processes of a user, as `/proc` shows them. */
export async function processesOf(uid: number): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    const status = /^\d+$/.test(name) ? await readFile(`/proc/${name}/status`, "utf8").catch(() => "") : "";
    const isZombie = /^State:\s+[ZX]/m.test(status);
    if (new RegExp(`^Uid:\\s+${uid}\\s`, "m").test(status) && !isZombie) found.push(Number(name));
  }
  return found;
}
