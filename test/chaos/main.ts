// Runs the chaos suite on the services that the environment names. Its words are those of `usage`.
import { appendFile, readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { runMutants } from "./mutants.ts";
import { planFaults } from "./plan.ts";
import { type ChaosResult, runChaos } from "./run-chaos.ts";
import { type Scenario, scenarios } from "./scenarios.ts";
import { summarizeRuns } from "./summary.ts";

const usage = `usage: npm run test:chaos [-- OPTION...]
  --seed N           decides what is sent and done; printed, a random one where none is given
  --minutes N        how long faults are made in each run (default 2)
  --seeds N          so many runs, with seeds that count up from the first (default 1)
  --results FILE     appends each run's result to a file, a line of JSON each
  --summary FILE     runs nothing: adds the results in such a file up, as tables
  --scenario NAME    one of the short schedules (${[...scenarios.keys()].join(", ")})
  --mutants [NAME..] runs them against deliberate breakages, each of which has to be caught (default all)`;

const WORKERS = 4;
const SESSIONS = { bwrap: 6, docker: 2, busy: 2, shared: 2 } as const;

process.exitCode = await main();

/** 0 where nothing was wrong, 1 where something was, 2 for a wrong command line. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      seed: { type: "string", default: String(Math.floor(Math.random() * 1e9)) },
      seeds: { type: "string", default: "1" },
      minutes: { type: "string", default: "2" },
      results: { type: "string" },
      summary: { type: "string" },
      scenario: { type: "string" },
      mutants: { type: "boolean" },
    },
    allowPositionals: true,
  });
  if (values.summary !== undefined) return await summary(values.summary);
  if (values.mutants) return await mutants(positionals);
  const [first, runs, minutes] = [Number(values.seed), Number(values.seeds), Number(values.minutes)];
  const schedule =
    values.scenario === undefined ? longSchedule(minutes * 60_000) : scenarios.get(values.scenario);
  const areNumbersGood = Number.isSafeInteger(first) && runs >= 1 && minutes > 0 && minutes <= 600;
  if (!areNumbersGood || schedule === undefined || positionals.length > 0) {
    console.error(usage);
    return 2;
  }
  let isClean = true;
  for (let run = 0; run < runs; run++) {
    const result = await runChaos({
      ...schedule,
      seed: String(first + run),
      report: (line) => console.error(line),
    });
    if (values.results !== undefined) await appendFile(values.results, `${JSON.stringify(result)}\n`);
    describe(result);
    isClean &&= result.violations.length === 0;
  }
  return isClean ? 0 : 1;
}

function longSchedule(durationMs: number): Scenario {
  return { durationMs, lanes: planFaults, workers: WORKERS, sessions: SESSIONS, hasDeadlyMessage: true };
}

async function summary(file: string): Promise<number> {
  const lines = (await readFile(file, "utf8")).trim().split("\n");
  console.log(summarizeRuns(lines.map((line) => JSON.parse(line) as ChaosResult)));
  return 0;
}

async function mutants(names: readonly string[]): Promise<number> {
  let isGood = true;
  for await (const { name, scenario, outcome, what } of runMutants(names)) {
    console.log(`${outcome.padEnd(7)} ${name} (${scenario}): ${what}`);
    isGood &&= outcome === "caught" || outcome === "clean";
  }
  return isGood ? 0 : 1;
}

function describe({ violations, evidence, ...figures }: ChaosResult): void {
  console.log(JSON.stringify(figures, null, 2));
  for (const { check, conversation, what } of violations)
    console.log(`violation: ${check}: ${conversation === undefined ? "" : `${conversation}: `}${what}`);
  console.log(evidence === undefined ? "no violations" : `${violations.length} violations; see ${evidence}`);
}
