import type { ChaosFleet } from "../chaos-fleet.ts";
import type { SeededRandom } from "../seeded-random.ts";

/** What is done to the fleet, as the plan says it. */
export interface PlannedFault {
  readonly kind: string;
  /** Number of the worker or dispatcher it is done to; of no meaning where it is done to all. */
  readonly seat: number;
  /** How long it is waited before it, in ms. */
  readonly pauseMs: number;
  /** Decides what else is left to chance. */
  readonly seed: string;
}

/** Does it, and resolves when the fleet is whole again. False where it could not be done. */
export type Fault = (fleet: ChaosFleet, seat: number, random: SeededRandom) => Promise<boolean>;
