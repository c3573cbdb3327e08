import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { launch } from "./launch.ts";
import type { OwnedProcess } from "./owned-process.ts";
import { nodeBinary, repositoryRoot } from "./paths.ts";

/** A line of a process' log. */
export interface LogLine {
  readonly time: string;
  readonly msg?: string;
  readonly [field: string]: unknown;
}

export interface FleetProcessOptions {
  readonly app: "dispatcher" | "worker";
  readonly logFile: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
}

/** A dispatcher or worker, started from the clone's sources. */
export class FleetProcess {
  readonly #owned: OwnedProcess;
  readonly #logFile: string;
  /** What it logged when it was ready: its addresses. */
  readonly ready: LogLine;

  /**
   * Starts one and waits until it says that it is ready.
   *
   * @throws {SetupError} `SETUP_SERVICE_FAILED` with the end of its log when it ends or is not ready in time.
   */
  static async start({ app, logFile, environment, signal }: FleetProcessOptions): Promise<FleetProcess> {
    let ready: LogLine | undefined;
    const owned = await launch({
      name: app,
      command: [nodeBinary, join(repositoryRoot, `apps/${app}/src/main.ts`)],
      cwd: repositoryRoot,
      env: environment,
      logFile,
      // A worker drains first.
      stopTimeoutMs: 30_000,
      startTimeoutMs: 60_000,
      signal,
      answers: async () => {
        ready = (await readLog(logFile)).find(({ msg }) => msg === `${app} ready`);
        return ready !== undefined;
      },
    });
    return new FleetProcess(owned, logFile, ready as LogLine);
  }

  private constructor(owned: OwnedProcess, logFile: string, ready: LogLine) {
    this.#owned = owned;
    this.#logFile = logFile;
    this.ready = ready;
  }

  get pid(): number {
    return this.#owned.pid;
  }

  /** Settles when it has ended, with what by. */
  get exited(): Promise<string> {
    return this.#owned.exited;
  }

  log(): Promise<LogLine[]> {
    return readLog(this.#logFile);
  }

  logTail(): Promise<string> {
    return this.#owned.logTail();
  }

  /** Ends it in order: SIGTERM. */
  stop(): Promise<void> {
    return this.#owned.stop();
  }

  kill(): Promise<void> {
    return this.#owned.kill();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** The whole lines that are JSON; a process that fails to start writes others. */
async function readLog(file: string): Promise<LogLine[]> {
  const lines = (await readFile(file, "utf8")).split("\n").slice(0, -1);
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as LogLine];
    } catch {
      return [];
    }
  });
}
