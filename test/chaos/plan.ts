import { killKind, otherFaults } from "./faults/catalogue.ts";
import type { PlannedFault } from "./faults/fault.ts";
import { phases } from "./phases.ts";
import type { SeededRandom } from "./seeded-random.ts";

/** Faults that are made one after another; several lanes at the same time. */
export type Lane = Iterable<PlannedFault>;

const KILL_PAUSE_MS = 250;
const OTHER_PAUSE_MS = 1_500;
const SEATS = 12;

/** Goes through all of `kinds` in a random order, and again, so that each comes about as often as the others. */
function* deck(
  kinds: readonly string[],
  random: SeededRandom,
  pauseMs: number,
  seats: Seats,
): Generator<PlannedFault> {
  for (let at = 0; ; ) {
    for (const kind of random.shuffle(kinds)) {
      const seat = seats(kind, random);
      yield {
        kind,
        seat,
        pauseMs: random.integer(0, 2 * pauseMs),
        seed: `${random.integer(0, 2 ** 31)}/${at++}`,
      };
    }
  }
}

type Seats = (kind: string, random: SeededRandom) => number;

/** Everything that is done to a fleet, from the seed alone: without an end, time ends it. */
export function planFaults(random: SeededRandom): Lane[] {
  const anySeat: Seats = (_, from) => from.integer(0, SEATS - 1);
  const kinds = (app: "worker" | "dispatcher") =>
    phases.filter((phase) => phase.app === app).map(({ name }) => killKind(name));
  // Two lanes of kills have workers of their own, so that they don't wait for each other.
  const workers =
    (parity: number): Seats =>
    (_, from) =>
      2 * from.integer(0, SEATS / 2 - 1) + parity;
  return [
    deck(kinds("worker"), random.fork("kills/0"), KILL_PAUSE_MS, workers(0)),
    deck(kinds("worker"), random.fork("kills/1"), KILL_PAUSE_MS, workers(1)),
    deck(kinds("dispatcher"), random.fork("kills/dispatchers"), OTHER_PAUSE_MS, anySeat),
    deck(otherFaults, random.fork("others"), OTHER_PAUSE_MS, anySeat),
  ];
}
