import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { type Sandbox, type SandboxRuntime, SandboxUsers, Slots } from "@longshore/sandbox";

const WORKER = "bench";

/** Starts sandboxes as a worker does, without one. */
export class BenchSandboxes implements AsyncDisposable {
  readonly #runtime: SandboxRuntime;
  readonly #slots: Slots;
  readonly #users: SandboxUsers;

  constructor(runtime: SandboxRuntime, runDirectory: string) {
    this.#runtime = runtime;
    this.#slots = new Slots(runDirectory, WORKER);
    this.#users = new SandboxUsers({ runDirectory, workerId: WORKER });
  }

  /** @param root an image, or a root file system */
  async with<T>(
    command: readonly string[],
    root: { readonly image: string } | { readonly rootfs: string },
    use: (sandbox: Sandbox) => Promise<T>,
  ): Promise<T> {
    const nonce = randomBytes(8).toString("hex");
    const user = await this.#users.acquire();
    const slotDirectory = await this.#slots.create(nonce, user);
    await this.#slots.furnish(nonce, user);
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
