import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { repositoryRoot } from "../../infra/setup/paths.ts";
import { capture } from "../../infra/setup/run-command.ts";
import { copySources, PatchError, patchSources } from "../support/source-copy.ts";
import { scenarios } from "./scenarios.ts";

const directory = join(repositoryRoot, "test/chaos/mutants");
const SEED = "7";
/** A run of a mutant may be caught only on another schedule: its phases come as the machine lets them. */
const SEEDS_TRIED = 3;

/** What was found of a mutant, or of a scenario without one. */
export interface MutantResult {
  readonly name: string;
  readonly scenario: string;
  /** `caught`: violations; `missed`: none; `broken`: the patch does not apply, or the run did not come to its end. */
  readonly outcome: "caught" | "missed" | "broken" | "clean" | "unclean";
  /** The first violation, or what went wrong. */
  readonly what: string;
}

/**
 * Runs the suite against deliberate breakages of the product, each a patch that is applied to a copy of the sources, on
 * the schedule that it names; and each schedule on the sources as they are, which has to be clean.
 *
 * @param names of patches, without the ending. @default all
 */
export async function* runMutants(names: readonly string[]): AsyncGenerator<MutantResult> {
  const files = (await readdir(directory)).filter((file) => file.endsWith(".patch")).toSorted();
  const known = files.map((file) => file.replace(/\.patch$/, ""));
  for (const name of names) if (!known.includes(name)) throw new Error(`no mutant "${name}"`);
  const wanted = names.length === 0 ? known : names;
  const used = new Set<string>();
  for (const name of wanted) {
    const patch = join(directory, `${name}.patch`);
    const scenario = /^Scenario: (.+)$/m.exec(await readFile(patch, "utf8"))?.[1] ?? "";
    used.add(scenario);
    const result = scenarios.has(scenario)
      ? await runMutant(patch, scenario)
      : { outcome: "broken" as const, what: `no scenario "${scenario}"` };
    yield { name, scenario, ...result };
  }
  for (const scenario of used) {
    const { status, what } = await runScenario(repositoryRoot, scenario, SEED);
    yield { name: "(none)", scenario, outcome: status === 0 ? "clean" : "unclean", what };
  }
}

async function runMutant(patch: string, scenario: string): Promise<Pick<MutantResult, "outcome" | "what">> {
  const copy = await mkdtemp(join(tmpdir(), "longshore-mutant-"));
  try {
    await copySources(copy);
    await patchSources(copy, patch);
    for (let tried = 0; tried < SEEDS_TRIED; tried++) {
      const { status, what } = await runScenario(copy, scenario, String(Number(SEED) + tried));
      if (status === 1) return { outcome: "caught", what };
      if (status !== 0) return { outcome: "broken", what };
    }
    return { outcome: "missed", what: `clean with ${SEEDS_TRIED} seeds` };
  } catch (error) {
    if (error instanceof PatchError) return { outcome: "broken", what: error.message };
    throw error;
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}

/** 0 for a clean run, 1 for violations, of which `what` is the first; anything else for a run that was none. */
async function runScenario(
  root: string,
  name: string,
  seed: string,
): Promise<{ status: number; what: string }> {
  const command = [process.execPath, join(root, "test/chaos/main.ts"), "--scenario", name, "--seed", seed];
  const { status, output } = await capture(command, { cwd: root });
  const violation = /^violation: (.*)$/m.exec(output)?.[1];
  const evidence = /; see (\/\S+)$/m.exec(output)?.[1];
  // That a mutant is wrong is known; what else is, somebody has to look into.
  if (root !== repositoryRoot && evidence !== undefined) await rm(evidence, { recursive: true });
  if (status === 0) return { status, what: "no violations" };
  return status === 1 && violation !== undefined
    ? { status, what: violation }
    : { status: 2, what: output.slice(-2_000) };
}
