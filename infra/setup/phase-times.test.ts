import { describe, expect, it } from "vitest";
import { describePhases, parsePhaseTimes } from "./phase-times.ts";

const metrics = `# HELP longshore_turn_phase_seconds How long each phase of a turn took
# TYPE longshore_turn_phase_seconds histogram
longshore_turn_phase_seconds_bucket{le="0.1",agent="helper",phase="lease"} 1
longshore_turn_phase_seconds_sum{agent="helper",phase="lease"} 0.0015
longshore_turn_phase_seconds_sum{agent="other",phase="lease"} 0.0005
longshore_turn_phase_seconds_sum{agent="helper",phase="prompt"} 1.25
longshore_fenced_total 0
`;

describe("phase times", () => {
  it("are added up over agents", () => {
    expect([...parsePhaseTimes(metrics)]).toEqual([
      ["lease", 0.002],
      ["prompt", 1.25],
    ]);
  });

  it("are told as what was added, without what was not", () => {
    const before = new Map([["lease", 0.002]]);
    expect(describePhases(before, parsePhaseTimes(metrics))).toBe("prompt 1250 ms");
    expect(describePhases(new Map(), parsePhaseTimes(metrics))).toBe("lease 2.0 ms · prompt 1250 ms");
  });
});
