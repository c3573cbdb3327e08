import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { type Sandbox, type SandboxRuntime, SandboxUsers, SlotDisks, Slots } from "@longshore/sandbox";

const WORKER = "bench";
/** The default of an agent. */
const QUOTA = { bytes: 5 * 1024 ** 3, files: 200_000 };

/** Starts sandboxes as a worker does, without one. */
export class BenchSandboxes implements AsyncDisposable {
  readonly #runtime: SandboxRuntime;
  readonly #slots: Slots;
  readonly #users: SandboxUsers;

  private constructor(runtime: SandboxRuntime, runDirectory: string, disks: SlotDisks) {
    this.#runtime = runtime;
    this.#slots = new Slots(runDirectory, WORKER, disks);
    this.#users = new SandboxUsers({ runDirectory, workerId: WORKER });
  }

  static async open(runtime: SandboxRuntime, runDirectory: string): Promise<BenchSandboxes> {
    return new BenchSandboxes(runtime, runDirectory, await SlotDisks.open(runDirectory));
  }

  /** @param root an image, or a root file system */
  async with<T>(
    command: readonly string[],
    root: { readonly image: string } | { readonly rootfs: string },
    use: (sandbox: Sandbox) => Promise<T>,
  ): Promise<T> {
    const nonce = randomBytes(8).toString("hex");
    const user = await this.#users.acquire();
    this.#runtime.foresee?.({ worker: WORKER, nonce });
    const slotDirectory = await this.#slots.create(nonce, user, {
      runtime: this.#runtime.name,
      quota: QUOTA,
    });
    const labels = { host: hostname(), worker: WORKER, tenant: "bench", sessionId: nonce, epoch: 1, nonce };
    const sandbox = await this.#runtime.start({
      ...{ labels, command, slotDirectory, user, env: {}, ...root },
      workingDirectory: "/session/workspace",
      limits: { memoryBytes: 512 * 1024 ** 2, cpus: 2, pids: 256 },
    });
    try {
      return await use(sandbox);
    } finally {
      await sandbox.destroy();
      await this.#slots.remove(nonce);
      await this.#users.release(user);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#users.close();
  }
}

export function runDirectoryOf(directory: string): string {
  return join(directory, "run");
}
