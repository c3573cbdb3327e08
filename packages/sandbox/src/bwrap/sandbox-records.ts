import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "@longshore/shared";
import type { SandboxLabels } from "../sandbox.ts";

const SUFFIX = ".json";

/**
 * The labels of bubblewrap's sandboxes, a file each below
 * `<runDirectory>/workers/<worker>/sandboxes/`. Written before anything of a sandbox exists and removed
 * when nothing does any more. The directory is the fleet's own; no sandbox sees it.
 */
export class SandboxRecords {
  readonly #workers: string;

  constructor(runDirectory: string) {
    this.#workers = join(runDirectory, "workers");
  }

  async write(labels: SandboxLabels): Promise<void> {
    const directory = this.#directory(labels.worker);
    await mkdir(directory, { recursive: true, mode: 0o711 });
    const path = join(directory, `${labels.nonce}${SUFFIX}`);
    await writeFile(`${path}.new`, JSON.stringify(labels), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async remove(worker: string, nonce: string): Promise<void> {
    await rm(join(this.#directory(worker), `${nonce}${SUFFIX}`), { force: true });
    await rmdir(this.#directory(worker)).catch(() => undefined);
  }

  async list(): Promise<SandboxLabels[]> {
    const found: SandboxLabels[] = [];
    for (const worker of await namesIn(this.#workers)) {
      for (const name of await namesIn(this.#directory(worker))) {
        if (!name.endsWith(SUFFIX)) continue;
        const labels = await this.#read(worker, name);
        if (labels) found.push(labels);
      }
    }
    return found;
  }

  async #read(worker: string, name: string): Promise<SandboxLabels | undefined> {
    try {
      return JSON.parse(await readFile(join(this.#directory(worker), name), "utf8")) as SandboxLabels;
    } catch (error) {
      // Removed meanwhile by its worker.
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  #directory(worker: string): string {
    return join(this.#workers, worker, "sandboxes");
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    const code = errnoOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw error;
  }
}
