// Runs the chaos suite on the services that the environment names. Its words are those of `usage`.
import { appendFile, readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { planFaults } from "./plan.ts";
import { type ChaosResult, runChaos } from "./run-chaos.ts";
import { summarizeRuns } from "./summary.ts";

const usage = `usage: npm run test:chaos [-- OPTION...]
  --seed N        decides what is sent and done; printed, a random one where none is given
  --minutes N     how long faults are made in each run (default 2)
  --seeds N       so many runs, with seeds that count up from the first (default 1)
  --results FILE  appends each run's result to a file, a line of JSON each
  --summary FILE  runs nothing: adds the results in such a file up, as tables`;

process.exitCode = await main();

/** 0 where nothing was wrong, 1 where something was, 2 for a wrong command line. */
async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: String(Math.floor(Math.random() * 1e9)) },
      seeds: { type: "string", default: "1" },
      minutes: { type: "string", default: "2" },
      results: { type: "string" },
      summary: { type: "string" },
    },
  });
  if (values.summary !== undefined) {
    const lines = (await readFile(values.summary, "utf8")).trim().split("\n");
    console.log(summarizeRuns(lines.map((line) => JSON.parse(line) as ChaosResult)));
    return 0;
  }
  const [first, runs, minutes] = [Number(values.seed), Number(values.seeds), Number(values.minutes)];
  if (!Number.isSafeInteger(first) || !(runs >= 1) || !(minutes > 0 && minutes <= 600)) {
    console.error(usage);
    return 2;
  }
  let isClean = true;
  for (let run = 0; run < runs; run++) {
    const result = await runChaos({
      seed: String(first + run),
      durationMs: minutes * 60_000,
      lanes: planFaults,
      workers: 4,
      sessions: { bwrap: 14, docker: 2 },
      report: (line) => console.error(line),
    });
    if (values.results !== undefined) await appendFile(values.results, `${JSON.stringify(result)}\n`);
    describe(result);
    isClean &&= result.violations.length === 0;
  }
  return isClean ? 0 : 1;
}

function describe({ violations, evidence, ...figures }: ChaosResult): void {
  console.log(JSON.stringify(figures, null, 2));
  for (const { check, conversation = "", what } of violations)
    console.log(`${check}: ${conversation} ${what}`);
  console.log(evidence === undefined ? "no violations" : `${violations.length} violations; see ${evidence}`);
}
