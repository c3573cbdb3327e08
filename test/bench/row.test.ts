import { describe, expect, it } from "vitest";
import { formatMarkdown, formatTable, type Measurement, rowOf } from "./row.ts";

const cold: Measurement = {
  work: "cold turn",
  unit: "ms",
  ours: 300,
  peer: 200,
  peerCommand: "docker run x",
};

describe("a row", () => {
  it("has the ratio of ours to the peer's", () => {
    expect(rowOf(cold)).toMatchObject({ ratio: 1.5, target: null, reached: null });
  });

  it.each([
    [{ of: "ratio", atMost: 2 }, "ratio <= 2", true],
    [{ of: "ratio", atMost: 5 / 3 }, "ratio <= 1.67", true],
    [{ of: "ratio", atMost: 1.4 }, "ratio <= 1.4", false],
    [{ of: "ours", atLeast: 301 }, "ours >= 301", false],
    [{ of: "ours", atLeast: 100, atMost: 300 }, "ours <= 300, ours >= 100", true],
  ] as const)("compares with the target %o", (target, text, reached) => {
    expect(rowOf({ ...cold, target })).toMatchObject({ target: text, reached });
  });

  it.each([
    ["ours", { ours: null }],
    ["the peer's", { peer: null }],
  ])("never reaches a target without %s", (_name, missing) => {
    const row = rowOf({ ...cold, ...missing, target: { of: "ratio", atMost: 100 }, failure: "no engine" });
    expect(row).toMatchObject({ ratio: null, reached: false, failure: "no engine" });
  });
});

describe("the table", () => {
  it("aligns rows, and tells failures and each peer's command once", () => {
    const rows = [
      cold,
      { ...cold, work: "x", ours: 1.23456, target: { of: "ratio", atMost: 2 } } as const,
      { work: "broken", unit: "ms", ours: null, peer: null, failure: "no engine" } as const,
    ].map(rowOf);
    expect(formatTable(rows)).toBe(
      [
        "work          ours    peer  ratio  target      reached",
        "cold turn   300 ms  200 ms   1.50  -           -",
        "x          1.23 ms  200 ms   0.01  ratio <= 2  yes",
        "broken           -       -      -  -           -",
        "not measured: broken: no engine",
        "peer: docker run x",
      ].join("\n"),
    );
  });

  it("tells the figures of all peers where the row has the best of several", () => {
    const table = formatTable([rowOf({ ...cold, peers: { docker: 200, podman: 1234.5 } })]);
    expect(table).toContain("\ncold turn: docker 200 ms, podman 1235 ms\n");
  });

  it("can be put into a page", () => {
    expect(formatMarkdown([rowOf(cold)])).toBe(
      [
        "| work | ours | peer | ratio | target | reached |",
        "| --- | ---: | ---: | ---: | --- | --- |",
        "| cold turn | 300 ms | 200 ms | 1.50 | - | - |",
        "",
        "- peer: docker run x",
      ].join("\n"),
    );
  });
});
