// Runs a benchmark on the services that the environment names: node test/bench/main.ts NAME [PART...] [--json|--markdown].
import { parseArgs } from "node:util";
import { benchmarkParts, benchmarks, benchUsage } from "./benchmarks.ts";
import { describeMachine } from "./machine.ts";
import { formatLine, formatMarkdown, formatTable, type Row, rowOf } from "./row.ts";

const { values, positionals } = parseArgs({
  options: { json: { type: "boolean" }, markdown: { type: "boolean" } },
  allowPositionals: true,
});
const rows: Row[] = [];
process.exitCode = await main();

/** 0 when every target was reached, 1 when not or when a measurement failed, 2 for a wrong command line. */
async function main(): Promise<number> {
  const [name = "", ...parts] = positionals;
  const load = benchmarks.get(name);
  const known = benchmarkParts.get(name) ?? [];
  if (load === undefined || parts.some((part) => !known.includes(part))) {
    console.error(benchUsage);
    return 2;
  }
  const benchmark = await load();
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      // What was measured is shown; what runs ends with this process, as it would have without.
      print();
      process.kill(process.pid, signal);
    });
  let broken = false;
  try {
    for await (const measurement of benchmark((part) => parts.length === 0 || parts.includes(part))) {
      const row = rowOf(measurement);
      console.error(formatLine(row));
      rows.push(row);
    }
  } catch (error) {
    // What was measured before is shown all the same.
    console.error(error);
    broken = true;
  }
  print();
  return broken || rows.some((row) => row.reached === false) ? 1 : 0;
}

function print(): void {
  if (values.json) console.log(JSON.stringify(rows, null, 2));
  else if (values.markdown) console.log(`${describeMachine()}\n\n${formatMarkdown(rows)}`);
  else console.log(formatTable(rows));
}
