import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { SetupError } from "./errors.ts";
import { isRoot } from "./privilege.ts";
import { findProgram } from "./programs.ts";
import { run } from "./run-command.ts";

/** How many lines of a service's log an error shows. */
const shownLogLines = 15;

export interface OwnedProcessOptions {
  /** What the process is called in errors. */
  readonly name: string;
  readonly command: readonly string[];
  /** Receives stdout and stderr, appended. */
  readonly logFile: string;
  readonly cwd?: string;
  /** @default the environment of this process */
  readonly env?: NodeJS.ProcessEnv;
  /** Whether it has to run as root, by sudo where this process is not. @default false */
  readonly privileged?: boolean;
  /** How long `stop` waits after SIGTERM before it kills, in milliseconds. @default 10000 */
  readonly stopTimeoutMs?: number;
  /** What the kernel sends it when this process dies, by whatever means. @default "KILL" */
  readonly signalWithParent?: "KILL" | "TERM";
}

/**
 * A service that this process started and ends by its id.
 *
 * It has a session of its own, so that Ctrl-C at the terminal reaches the suite that uses it and not the
 * service itself: it would be gone before its users. It dies with this process all the same, also when
 * that is killed by SIGKILL and can't clean up: the kernel signals it (`setpriv --pdeathsig`).
 */
export class OwnedProcess {
  readonly name: string;
  /** Settles when the process has ended, with what it ended by. Never rejects. */
  readonly exited: Promise<string>;
  readonly #child: ChildProcess;
  readonly #logFile: string;
  readonly #pidFile: string | null;
  readonly #stopTimeoutMs: number;
  #ended = false;

  /** @throws {SetupError} `SETUP_SERVICE_FAILED` when the program can't be executed. */
  static async start(options: OwnedProcessOptions): Promise<OwnedProcess> {
    const owned = new OwnedProcess(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    owned.#child.once("spawn", resolve);
    owned.#child.once("error", (cause) =>
      reject(new SetupError("SETUP_SERVICE_FAILED", `can't start ${options.name}`, { cause })),
    );
    await promise;
    return owned;
  }

  private constructor(options: OwnedProcessOptions) {
    this.name = options.name;
    this.#logFile = options.logFile;
    this.#stopTimeoutMs = options.stopTimeoutMs ?? 10_000;
    const withParent = [
      findProgram("setpriv") ?? "setpriv",
      "--pdeathsig",
      options.signalWithParent ?? "KILL",
      "--",
      ...options.command,
    ];
    const throughSudo = options.privileged === true && !isRoot();
    this.#pidFile = throughSudo ? `${options.logFile}.pid` : null;
    // sudo can't pass SIGKILL on, so the service's own id has to be known.
    const [program = "", ...args] = throughSudo
      ? ["sudo", "--", "sh", "-c", 'echo "$$" >"$0"; exec "$@"', `${options.logFile}.pid`, ...withParent]
      : withParent;
    const log = openSync(options.logFile, "a");
    try {
      this.#child = spawn(program, args, {
        cwd: options.cwd,
        env: options.env,
        detached: true,
        stdio: ["ignore", log, log],
      });
    } finally {
      closeSync(log);
    }
    this.exited = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => {
        this.#ended = true;
        resolve(signal ?? `status ${code}`);
      });
      this.#child.once("error", () => {
        this.#ended = true;
      });
    });
  }

  /** The id of the process (of sudo, where that was needed). */
  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /**
   * For probes while the service starts: gives nothing as long as it runs.
   *
   * @throws {SetupError} `SETUP_SERVICE_FAILED` with the end of its log when it has ended.
   */
  async assertRunning(): Promise<void> {
    if (this.#ended) {
      throw new SetupError(
        "SETUP_SERVICE_FAILED",
        `${this.name} ended (${await this.exited}) while it was started:\n${await this.logTail()}`,
      );
    }
  }

  /** The last lines of what the service wrote. */
  async logTail(): Promise<string> {
    const log = await readFile(this.#logFile, "utf8").catch(() => "");
    return log.trimEnd().split("\n").slice(-shownLogLines).join("\n");
  }

  /** Ends it by SIGTERM, or SIGKILL when it has not ended in time, and waits until it is gone. */
  async stop(): Promise<void> {
    if (this.#ended) {
      return;
    }
    await this.signal("SIGTERM");
    // A suspended process gets it when it goes on.
    await this.signal("SIGCONT");
    const timer = new AbortController();
    const inTime = await Promise.race([
      this.exited.then(() => true),
      sleep(this.#stopTimeoutMs, false, { signal: timer.signal }).catch(() => false),
    ]);
    timer.abort();
    if (!inTime) {
      await this.kill();
    }
  }

  /** Ends it by SIGKILL and waits until it is gone. */
  async kill(): Promise<void> {
    if (!this.#ended) {
      await this.signal("SIGKILL");
      await this.exited;
    }
  }

  /** Sends a signal, for instance SIGSTOP and SIGCONT to play a service that hangs. */
  async signal(name: NodeJS.Signals): Promise<void> {
    if (this.#ended) {
      return;
    }
    if (this.#pidFile === null) {
      this.#child.kill(name);
      return;
    }
    const pid = (await readFile(this.#pidFile, "utf8")).trim();
    await run(["sudo", "--", "kill", "-s", name.replace(/^SIG/, ""), pid]);
  }
}
