import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { repositoryRoot } from "../../infra/setup/paths.ts";
import { capture } from "../../infra/setup/run-command.ts";
import { scenarios } from "./scenarios.ts";

const directory = join(import.meta.dirname, "mutants");
const patches = readdirSync(directory).filter((file) => file.endsWith(".patch"));

// To run them takes the better part of an hour; that they still break what they are about can be seen at once.
it.each(patches)("%s applies to the sources, and names a schedule", async (file) => {
  const patch = join(directory, file);
  const scenario = /^Scenario: (.+)$/m.exec(await readFile(patch, "utf8"))?.[1] ?? "";
  expect([...scenarios.keys()]).toContain(scenario);
  expect(await capture(["git", "apply", "--check", "-C0", patch], { cwd: repositoryRoot })).toMatchObject({
    status: 0,
  });
});
