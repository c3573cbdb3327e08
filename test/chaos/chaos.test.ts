import { expect, it } from "vitest";
import { planFaults } from "./plan.ts";
import { runChaos } from "./run-chaos.ts";

/** Short: `npm run test:chaos` is the long one. */
const FAULTS_MS = 15_000;

it("a fleet that is harmed in every lane at once keeps all its promises", { timeout: 240_000 }, async () => {
  const seed = String(Math.floor(Math.random() * 1e9));
  const result = await runChaos({
    seed,
    durationMs: FAULTS_MS,
    lanes: planFaults,
    workers: 3,
    sessions: { bwrap: 6, docker: 1 },
    // The seed repeats the schedule.
    report: (line) => console.log(line),
  });
  expect(result.violations, `seed ${seed}, evidence in ${result.evidence}`).toEqual([]);
  expect(result.messages).toBeGreaterThan(0);
  expect(Object.keys(result.faults).length).toBeGreaterThan(0);
});
