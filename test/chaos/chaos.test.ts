import { expect, it } from "vitest";
import { planFaults } from "./plan.ts";
import { runChaos } from "./run-chaos.ts";

/** Short: `npm run test:chaos` is the long one. The same schedule each time, so that a failure can be looked at. */
const FAULTS_MS = 15_000;
const SEED = "1";

it("a fleet that is harmed in every lane at once keeps all its promises", { timeout: 240_000 }, async () => {
  const result = await runChaos({
    seed: SEED,
    durationMs: FAULTS_MS,
    lanes: planFaults,
    workers: 3,
    sessions: { bwrap: 2, docker: 1, busy: 1, shared: 2 },
    report: (line) => console.log(line),
  });
  expect(result.violations, `evidence in ${result.evidence}`).toEqual([]);
  expect(result.messages).toBeGreaterThan(0);
  expect(Object.keys(result.faults).length).toBeGreaterThan(0);
});
