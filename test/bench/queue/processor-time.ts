import { readFileSync } from "node:fs";

/** How busy all of this machine's processors are, from when it is made: 0 to 1. */
export class ProcessorTime {
  readonly #start = readTimes();

  busy(): number {
    const now = readTimes();
    return (now.busy - this.#start.busy) / Math.max(1, now.all - this.#start.all);
  }
}

/** In ticks since the machine's start. */
function readTimes(): { readonly busy: number; readonly all: number } {
  const [line = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const [user = 0, nice = 0, system = 0, idle = 0, waiting = 0, ...rest] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  // The last two, of guests, are in the first two already.
  const others = rest.slice(0, 3).reduce((sum, ticks) => sum + ticks, 0);
  const busy = user + nice + system + others;
  return { busy, all: busy + idle + waiting };
}
