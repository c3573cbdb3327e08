import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { processesMentioning, processesWithVariable } from "../../infra/setup/process-table.ts";
import { FaultProxy } from "../faults/fault-proxy.ts";
import { AppProcess, type LogLine } from "../support/app-process.ts";
import { HoldingProxy } from "../support/holding-proxy.ts";
import type { ProcessHistory } from "./history.ts";

const repository = fileURLToPath(new URL("../..", import.meta.url));
const ID_VARIABLE = "LONGSHORE_WORKER_ID";
/** A process that starts beside many others. */
const START_LIMIT_MS = 60_000;
/** SIGTERM to the end: the drain time, and what comes after it. */
const STOP_LIMIT_MS = 60_000;

export interface SeatOptions {
  readonly app: "worker" | "dispatcher";
  readonly number: number;
  readonly environment: NodeJS.ProcessEnv;
}

/**
 * A place in the fleet that a worker or dispatcher has, and after its death the next one. Its Redis and its object store
 * are behind proxies, so that the process can be met at a request or an answer.
 *
 * empty → (`start`) running → (`kill`, `stop`) empty. Who does something to it does so `alone`, one after another.
 */
export class Seat implements AsyncDisposable {
  readonly name: string;
  readonly app: "worker" | "dispatcher";
  readonly redis: HoldingProxy;
  readonly store: FaultProxy;
  /** Told of each line that a process of this seat, or one that it started, logs. */
  onLine: (line: LogLine) => void = () => undefined;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #past: { readonly process: AppProcess; readonly id: string; wasToEnd: boolean }[] = [];
  #ready: LogLine | undefined;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: SeatOptions, redis: HoldingProxy, store: FaultProxy) {
    this.app = options.app;
    this.name = `${options.app}-${options.number}`;
    this.redis = redis;
    this.store = store;
    this.#environment = {
      ...options.environment,
      REDIS_URL: redis.url(options.environment.REDIS_URL as string),
      S3_ENDPOINT: store.url,
      // A debugger that is asked for by SIGUSR1 gets a port of its own.
      NODE_OPTIONS: "--inspect-port=127.0.0.1:0",
    };
  }

  static async open(options: SeatOptions): Promise<Seat> {
    const { REDIS_URL, S3_ENDPOINT } = options.environment;
    const redis = await HoldingProxy.start(REDIS_URL as string);
    return new Seat(options, redis, await FaultProxy.start(S3_ENDPOINT as string));
  }

  get process(): AppProcess {
    const current = this.#past.at(-1);
    if (current === undefined) throw new Error(`${this.name} was not started`);
    return current.process;
  }

  /** What it logged when it was ready; undefined while it is not. */
  get ready(): LogLine | undefined {
    return this.#ready;
  }

  /** Runs when whoever came before is done with the seat. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => undefined);
    return await turn;
  }

  async start(): Promise<void> {
    const id = `${this.name}-${randomBytes(3).toString("hex")}`;
    const process = AppProcess.start(
      this.name,
      [join(repository, "apps", this.app, "src/main.ts")],
      { ...this.#environment, [ID_VARIABLE]: id },
      { ownGroup: true },
    );
    process.onLine = (line) => this.onLine(line);
    const entry = { process, id, wasToEnd: false };
    this.#past.push(entry);
    try {
      this.#ready = await process.line(
        ({ msg }) => msg === `${this.app} ready`,
        0,
        AbortSignal.timeout(START_LIMIT_MS),
      );
    } catch (error) {
      entry.wasToEnd = true;
      await process.kill();
      throw error;
    }
  }

  /** The process, and any that it started for a message of its own: it may be that one's connection that is held. */
  async kill(): Promise<void> {
    this.#willEnd();
    const { process } = this;
    process.signal("SIGKILL");
    killAll(await quarantinesOf(this.#past.at(-1)?.id ?? ""));
    await process.kill();
  }

  /** SIGTERM, and SIGKILL for one that does not end by it in its time, which is an error. */
  async stop(): Promise<void> {
    this.#willEnd();
    const { process } = this;
    const stopped = process.stop();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(resolve, STOP_LIMIT_MS, "late");
    });
    const outcome = await Promise.race([stopped, late]);
    clearTimeout(timer);
    if (outcome !== "late") return;
    await process.kill();
    throw new Error(`${this.name} did not end within ${STOP_LIMIT_MS} ms of SIGTERM`);
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
  }

  /** Says that it is about to be ended, by whatever. */
  expectEnd(): void {
    this.#willEnd();
  }

  #willEnd(): void {
    const current = this.#past.at(-1);
    if (current !== undefined) current.wasToEnd = true;
    this.#ready = undefined;
  }

  /** All processes that had the seat. */
  async histories(): Promise<ProcessHistory[]> {
    return await Promise.all(
      this.#past.map(async ({ process, wasToEnd }, index) => ({
        name: `${this.name}#${index}`,
        app: this.app,
        lines: process.lines.map((line) => ({ at: Date.parse(String(line.time)), line })),
        stderr: process.stderr,
        endedByItself: !wasToEnd && (await hasEnded(process)),
      })),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#past.length > 0) await this.kill();
    await this.redis[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
  }
}

async function quarantinesOf(id: string): Promise<number[]> {
  const [started, quarantines] = await Promise.all([
    processesWithVariable(ID_VARIABLE, id),
    processesMentioning("quarantined-worker"),
  ]);
  return started.filter((pid) => quarantines.includes(pid));
}

function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself.
    }
  }
}

async function hasEnded(process: AppProcess): Promise<boolean> {
  return await Promise.race([process.exited.then(() => true), Promise.resolve().then(() => false)]);
}
