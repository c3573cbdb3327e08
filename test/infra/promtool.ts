import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { requireProgram } from "../../infra/setup/debian-packages.ts";
import { capture } from "../../infra/setup/run-command.ts";

export interface Verdict {
  readonly accepted: boolean;
  readonly output: string;
}

/** Runs Debian's `promtool`, which `npm test` installs. */
export async function promtool(...args: readonly string[]): Promise<Verdict> {
  const { status, output } = await capture([requireProgram("promtool"), ...args]);
  return { accepted: status === 0, output };
}

/** Whether PromQL expressions can be parsed, asked by putting them into recording rules. */
export async function checkExpressions(expressions: readonly string[]): Promise<Verdict> {
  const directory = await mkdtemp(join(tmpdir(), "longshore-expressions-"));
  try {
    const rules = expressions.map((expr, index) => ({ record: `expression:${index}`, expr }));
    const file = join(directory, "rules.yaml");
    await writeFile(file, stringify({ groups: [{ name: "expressions", rules }] }));
    return await promtool("check", "rules", file);
  } finally {
    await rm(directory, { recursive: true });
  }
}
