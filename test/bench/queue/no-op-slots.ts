import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type SandboxUsers, SESSION_DIRECTORIES, type Slots } from "@longshore/sandbox";

/** One furnished slot for all sandboxes, none of which writes into it. */
export class NoOpSlots implements Pick<Slots, "create" | "furnish" | "isBounded" | "remove"> {
  readonly #directory: string;

  /** @param directory for it; made where it is missing */
  static async make(directory: string): Promise<NoOpSlots> {
    for (const name of SESSION_DIRECTORIES) await mkdir(join(directory, name), { recursive: true });
    return new NoOpSlots(directory);
  }

  private constructor(directory: string) {
    this.#directory = directory;
  }

  async create(): Promise<string> {
    return this.#directory;
  }

  isBounded(): boolean {
    return true;
  }

  async furnish(): Promise<void> {}

  async remove(): Promise<void> {}
}

/** The process' own user for every sandbox. */
export const noOpUsers: Pick<SandboxUsers, "acquire" | "release"> = {
  acquire: async () => ({ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }),
  release: async () => undefined,
};
