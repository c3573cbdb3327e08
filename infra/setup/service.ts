import type { OwnedProcess } from "./owned-process.ts";

/**
 * A service that was started here. Tests of failures kill, suspend and restart it; its address stays
 * the same. `await using` stops it.
 */
export interface Service extends AsyncDisposable {
  /** The id of the process that answers at the address. */
  readonly pid: number;
  /** Ends the service in order, and what it started with it. Safe to call twice. */
  stop(): Promise<void>;
  /** Ends the answering process by SIGKILL; `restart` brings it back. */
  kill(): Promise<void>;
  /** Starts the answering process again, after killing it where it runs. */
  restart(): Promise<void>;
  /** Sends the answering process a signal, for instance SIGSTOP and SIGCONT. */
  signal(name: NodeJS.Signals): Promise<void>;
}

/** The answering process of a {@link Service}: the one place that knows how to launch it again. */
export class ServiceProcess {
  readonly #launch: () => Promise<OwnedProcess>;
  #current: OwnedProcess;

  /** @param launch Starts the process and waits until it answers; leaves nothing when it fails. */
  static async start(launch: () => Promise<OwnedProcess>): Promise<ServiceProcess> {
    return new ServiceProcess(launch, await launch());
  }

  private constructor(launch: () => Promise<OwnedProcess>, current: OwnedProcess) {
    this.#launch = launch;
    this.#current = current;
  }

  get pid(): number {
    return this.#current.pid;
  }

  async stop(): Promise<void> {
    await this.#current.stop();
  }

  async kill(): Promise<void> {
    await this.#current.kill();
  }

  async restart(): Promise<void> {
    await this.#current.kill();
    this.#current = await this.#launch();
  }

  async signal(name: NodeJS.Signals): Promise<void> {
    await this.#current.signal(name);
  }
}
