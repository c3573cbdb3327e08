// Runs one benchmark on the services that the environment names: node test/bench/main.ts NAME [--json|--markdown].
import { parseArgs } from "node:util";
import { benchmarks, benchUsage } from "./benchmarks.ts";
import { describeMachine } from "./machine.ts";
import { formatMarkdown, formatTable, type Row, rowOf } from "./row.ts";

process.exitCode = await main();

/** 0 when every target was reached, 1 when not or when a measurement failed, 2 for a wrong command line. */
async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: { json: { type: "boolean" }, markdown: { type: "boolean" } },
    allowPositionals: true,
  });
  const [name = "", ...others] = positionals;
  const load = benchmarks.get(name);
  if (load === undefined || others.length > 0) {
    console.error(benchUsage);
    return 2;
  }
  const benchmark = await load();
  const rows: Row[] = [];
  let broken = false;
  try {
    for await (const measurement of benchmark()) {
      console.error(`measured: ${measurement.work}`);
      rows.push(rowOf(measurement));
    }
  } catch (error) {
    // What was measured before is shown all the same.
    console.error(error);
    broken = true;
  }
  if (values.json) console.log(JSON.stringify(rows, null, 2));
  else if (values.markdown) console.log(`${describeMachine()}\n\n${formatMarkdown(rows)}`);
  else console.log(formatTable(rows));
  return broken || rows.some((row) => row.reached === false) ? 1 : 0;
}
