import type { ChaosResult } from "./run-chaos.ts";

const KILL = "kill: ";

/** Adds up the results of runs, as a Markdown page's tables. */
export function summarizeRuns(results: readonly ChaosResult[]): string {
  const sum = (figure: (result: ChaosResult) => number) =>
    results.reduce((total, result) => total + figure(result), 0);
  const faults = new Map<string, number>();
  for (const result of results)
    for (const [kind, count] of Object.entries(result.faults))
      faults.set(kind, (faults.get(kind) ?? 0) + count);
  const kills = [...faults].filter(([kind]) => kind.startsWith(KILL)).toSorted(byName);
  const others = [...faults].filter(([kind]) => !kind.startsWith(KILL)).toSorted(byName);
  const total = (rows: typeof kills) => rows.reduce((all, [, count]) => all + count, 0);
  const rows = (entries: typeof kills) =>
    entries.map(([name, count]) => [name.replace(KILL, ""), String(count)]);
  return [
    table(
      ["figure", "value"],
      [
        ["runs (seeds)", String(results.length)],
        ["minutes", sum(({ minutes }) => minutes).toFixed(0)],
        ["messages sent", String(sum(({ messages }) => messages))],
        ["answered", String(sum(({ answered }) => answered))],
        ["dead letters (poison)", String(sum(({ dead }) => dead))],
        ["generations, each restored", String(sum(({ generations }) => generations))],
        ["calls of the webhook", String(sum(({ replyCalls }) => replyCalls))],
        ["SIGKILLs", String(total(kills))],
        ["other faults", String(total(others))],
        ["violations", String(sum(({ violations }) => violations.length))],
      ],
    ),
    table(["killed at", "times"], rows(kills)),
    table(["other fault", "times"], rows(others)),
  ].join("\n\n");
}

function byName([a]: readonly [string, number], [b]: readonly [string, number]): number {
  return a.localeCompare(b);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
