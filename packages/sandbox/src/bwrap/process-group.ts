import { setTimeout as delay } from "node:timers/promises";
import type { SandboxCgroup } from "./cgroup.ts";
import { findSandboxProcesses, isStopped, type SandboxProcess, signalProcess } from "./processes.ts";

/** All processes of one sandbox, to be frozen and killed together. */
export interface ProcessGroup {
  /** Resolves when none of them runs. @throws Error when that takes longer */
  freeze(timeoutMs: number): Promise<void>;
  thaw(): Promise<void>;
  /** Sends SIGKILL to all but the spared one, also to frozen ones, and returns how many there were. */
  kill(spared: number | undefined): Promise<number>;
  /** How often the kernel killed one of them for lack of memory; 0 where it can't be known. */
  memoryKills(): Promise<number>;
}

/** The processes of a control group: complete by the kernel's word. */
export class CgroupProcesses implements ProcessGroup {
  readonly #cgroup: SandboxCgroup;
  readonly #fallback: ProcessGroup;

  /** @param fallback freezes where the cgroup can't */
  constructor(cgroup: SandboxCgroup, fallback: ProcessGroup) {
    this.#cgroup = cgroup;
    this.#fallback = fallback;
  }

  freeze(timeoutMs: number): Promise<void> {
    return this.#cgroup.abilities.freezer ? this.#cgroup.freeze(timeoutMs) : this.#fallback.freeze(timeoutMs);
  }

  thaw(): Promise<void> {
    return this.#cgroup.abilities.freezer ? this.#cgroup.thaw() : this.#fallback.thaw();
  }

  async kill(spared: number | undefined): Promise<number> {
    const targets = (await this.#cgroup.processes()).filter((pid) => pid !== spared);
    for (const pid of targets) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // Gone.
      }
    }
    // A frozen process dies of the signal when it runs again.
    await this.#cgroup.thaw();
    return targets.length;
  }

  memoryKills(): Promise<number> {
    return this.#cgroup.memoryKills();
  }
}

const STOP_ROUND_MS = 2;

/** The processes that show a sandbox's slot or marker, for hosts whose cgroups can't be written. */
export class FoundProcesses implements ProcessGroup {
  readonly #runDirectory: string;
  readonly #nonce: string;

  constructor(runDirectory: string, nonce: string) {
    this.#runDirectory = runDirectory;
    this.#nonce = nonce;
  }

  async freeze(timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    // A process that was not stopped yet may have made another, or continued one: look until all stand.
    for (;;) {
      const inside = (await this.#find()).filter((candidate) => candidate.isInside);
      const running = [];
      for (const candidate of inside) if (!(await isStopped(candidate.pid))) running.push(candidate);
      if (running.length === 0) return;
      if (performance.now() > deadline) {
        await this.thaw();
        throw new Error(`${running.length} processes did not stop within ${timeoutMs} ms`);
      }
      for (const candidate of running) await signalProcess(candidate, "SIGSTOP");
      await delay(STOP_ROUND_MS);
    }
  }

  async thaw(): Promise<void> {
    for (const candidate of await this.#find()) await signalProcess(candidate, "SIGCONT");
  }

  async kill(spared: number | undefined): Promise<number> {
    const targets = (await this.#find()).filter(({ pid }) => pid !== spared);
    for (const target of targets) await signalProcess(target, "SIGKILL");
    return targets.length;
  }

  async memoryKills(): Promise<number> {
    return 0;
  }

  async #find(): Promise<SandboxProcess[]> {
    return (await findSandboxProcesses(this.#runDirectory)).filter(({ nonce }) => nonce === this.#nonce);
  }
}
