import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** A line of a process' log. */
export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** Lines of a failed process that an error shows. */
const LINES_SHOWN = 20;

/** One of the fleet's processes, as an operator runs it: started by its entry point, watched by its log. */
export class AppProcess {
  readonly name: string;
  readonly lines: LogLine[] = [];
  /** Told of each line of the log as it is written. */
  onLine: (line: LogLine) => void = () => undefined;
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;
  readonly #watchers = new Set<() => void>();
  #stderr = "";
  #ended = false;

  private constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
    this.#exit = once(child, "close").then(([code]) => {
      this.#ended = true;
      this.#notify();
      return code as number | null;
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-10_000);
    });
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      try {
        const parsed = JSON.parse(line) as LogLine;
        this.lines.push(parsed);
        this.onLine(parsed);
      } catch {
        this.#stderr += `${line}\n`;
      }
      this.#notify();
    });
  }

  /**
   * Starts `node ARGUMENTS...` with just this environment, PATH, and where the tests keep compiled code.
   *
   * @param options.ownGroup in a process group of its own, that no signal to ours reaches. @default false
   */
  static start(
    name: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv,
    { ownGroup = false } = {},
  ): AppProcess {
    const child = spawn(process.execPath, args, {
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: ownGroup,
    });
    return new AppProcess(name, child);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Its exit code; null where a signal ended it. */
  get exited(): Promise<number | null> {
    return this.#exit;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /**
   * The first line, from the start or from `since` on, that matches; fails when the process ends first, and with the
   * signal's reason.
   */
  async line(matches: (line: LogLine) => boolean, since = 0, signal?: AbortSignal): Promise<LogLine> {
    for (let at = since; ; ) {
      signal?.throwIfAborted();
      for (; at < this.lines.length; at++) {
        const line = this.lines[at] as LogLine;
        if (matches(line)) return line;
      }
      if (this.#ended) {
        const last = this.lines.slice(-LINES_SHOWN).map((line) => JSON.stringify(line));
        throw new Error(`${this.name} ended before it wrote the line:\n${last.join("\n")}\n${this.#stderr}`);
      }
      await new Promise<void>((resolve) => {
        const watcher = () => {
          this.#watchers.delete(watcher);
          signal?.removeEventListener("abort", watcher);
          resolve();
        };
        this.#watchers.add(watcher);
        signal?.addEventListener("abort", watcher, { once: true });
      });
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it as an operator would, and waits. */
  async stop(): Promise<number | null> {
    if (!this.#ended) {
      this.signal("SIGTERM");
      this.signal("SIGCONT");
    }
    return this.#exit;
  }

  async kill(): Promise<void> {
    if (!this.#ended) this.signal("SIGKILL");
    await this.#exit;
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
