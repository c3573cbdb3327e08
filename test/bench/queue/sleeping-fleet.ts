import type { LocalSandbox } from "../../../infra/setup/fleet-configuration.ts";
import type { FleetProcess, LogLine } from "../../../infra/setup/fleet-process.ts";
import { LocalFleet } from "../../../infra/setup/local-fleet.ts";
import { waitUntil } from "../../../infra/setup/wait-until.ts";
import { atOnce } from "./at-once.ts";
import { sleepingAgent, sleepingCommand } from "./sleeping-agent.ts";

/** Requests at once. */
const SENDERS = 32;
const LOOK_MS = 100;

export interface SleepingFleetOptions {
  /** For everything that the fleet writes. Every user can pass it. */
  readonly directory: string;
  /** Root file system of the sandboxes. */
  readonly rootfs: string;
  readonly turnSeconds: number;
  /** Activations at once, of each worker. */
  readonly places: number;
  readonly leaseSeconds?: number;
  /** How the agents are spoken to. @default "acp" */
  readonly contract?: "acp" | "exec";
}

/** A fleet of real processes, with bubblewrap, a `file://` store and agents that sleep. */
export class SleepingFleet implements AsyncDisposable {
  readonly #fleet: LocalFleet;
  readonly workers: FleetProcess[] = [];

  static async start({
    turnSeconds,
    rootfs,
    contract = "acp",
    ...options
  }: SleepingFleetOptions): Promise<SleepingFleet> {
    const command = contract === "acp" ? sleepingAgent(turnSeconds) : sleepingCommand(turnSeconds);
    const sandbox: LocalSandbox = { runtime: "bwrap", rootfs, command, contract };
    return new SleepingFleet(
      await LocalFleet.start({ report: () => undefined }, { ...options, sandbox, port: 0 }),
    );
  }

  private constructor(fleet: LocalFleet) {
    this.#fleet = fleet;
  }

  async startWorkers(count: number): Promise<void> {
    for (let started = 0; started < count; started++) this.workers.push(await this.#fleet.startWorker());
  }

  /** Sends messages, to so many sessions by turns. */
  async send(messages: number, sessions: number): Promise<void> {
    await atOnce(messages, SENDERS, async (index) => {
      const response = await fetch(`${this.#fleet.url}/v1/messages`, {
        method: "POST",
        headers: { authorization: `Bearer ${this.#fleet.key}`, "content-type": "application/json" },
        body: JSON.stringify({
          ...{ id: `m${index}`, conversation: `c${index % sessions}`, thread: `c${index % sessions}` },
          ...{ agent: "helper", channel: "http", sender: { id: "bench" }, text: "sleep" },
        }),
      });
      if (response.status !== 202) throw new Error(`not accepted: ${await response.text()}`);
    });
  }

  /** When each turn got so far, in ms since the epoch, in order; of some of the workers, or all. */
  async timesOf(step: "prompt sent" | "turn answered", workers = this.workers): Promise<number[]> {
    const logs = await Promise.all(workers.map((worker) => worker.log()));
    const isStep = ({ msg }: LogLine) => msg === step;
    return logs
      .flatMap((log) => log.filter(isStep).map(({ time }) => Date.parse(time)))
      .toSorted((a, b) => a - b);
  }

  /** Resolves when so many turns got so far. */
  async reached(
    step: "prompt sent" | "turn answered",
    count: number,
    timeoutMs: number,
    workers = this.workers,
  ): Promise<void> {
    await waitUntil(async () => (await this.timesOf(step, workers)).length >= count, {
      ...{ what: `${count} times "${step}"`, timeoutMs, intervalMs: LOOK_MS },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fleet[Symbol.asyncDispose]();
  }
}
