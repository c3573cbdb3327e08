import type { Configuration, Logger, ScheduleBook, Schedules } from "@longshore/shared";
import { sleep } from "./sleep.ts";

/** How often it is looked whether each schedule still has a job, in ms. */
const LOOK_MS = 60_000;

export interface ScheduleKeeperOptions {
  readonly schedules: Schedules;
  readonly book: ScheduleBook;
  readonly configuration: () => Configuration;
  readonly log: Logger;
}

/** Makes schedules that have stopped go on; every dispatcher has one. */
export class ScheduleKeeper {
  readonly #options: ScheduleKeeperOptions;
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: ScheduleKeeperOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { configuration, schedules, book, log } = this.#options;
    do {
      try {
        for (const tenant of Object.keys(configuration().tenants)) {
          for (const schedule of await book.list(tenant)) {
            if (this.#closing.signal.aborted) return;
            if (await schedules.ensure(tenant, schedule))
              log.warn({ tenant, schedule: schedule.id }, "a schedule that had stopped goes on");
          }
        }
      } catch (error) {
        log.warn({ err: error }, "not all schedules could be looked at");
      }
    } while (await sleep(LOOK_MS, this.#closing.signal));
  }
}
