import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { repositoryRoot } from "./paths.ts";

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "session-tree-lint-"));
  await mkdir(join(directory, "infra/lint"), { recursive: true });
  for (const name of ["biome.json", ".gitignore", "infra/lint/recursive-file-calls.grit"])
    await copyFile(join(repositoryRoot, name), join(directory, name));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** The rules that a file breaks, by the linter's own report. */
async function rulesBrokenBy(path: string, source: string): Promise<string[]> {
  const file = join(directory, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, source);
  const report = await new Promise<string>((resolve) => {
    execFile(
      join(repositoryRoot, "node_modules/.bin/biome"),
      ["lint", "--reporter=json", path],
      { cwd: directory },
      (_, stdout) => resolve(stdout),
    );
  });
  const { diagnostics } = JSON.parse(report) as {
    readonly diagnostics: readonly { readonly category: string }[];
  };
  return diagnostics.map(({ category }) => category);
}

describe("the linter refuses, in code that handles session trees,", () => {
  it.each([
    'rm("x", { force: true, recursive: true });',
    'cp("x", "y", { errorOnExist: true, recursive: true });',
    'readdir("x", { recursive: always });',
    'fs.rmSync("x", { recursive: true });',
  ])("%s", async (call) => {
    expect(await rulesBrokenBy("packages/sandbox/src/some.ts", `${call}\n`)).toEqual(["plugin"]);
    expect(await rulesBrokenBy("packages/sandbox/src/some.test.ts", `${call}\n`)).toEqual([]);
  });

  it.each(["packages/session-store/src/some.ts", "apps/worker/src/some.ts", "packages/sandbox/src/slots.ts"])(
    "functions that take a path: %s",
    async (path) => {
      const use = (name: string, module: string) => `import { ${name} } from "${module}";\n${name}();\n`;
      const rule = ["lint/style/noRestrictedImports"];
      expect(await rulesBrokenBy(path, use("readFile", "node:fs/promises"))).toEqual(rule);
      expect(await rulesBrokenBy(path, use("lstatSync", "node:fs"))).toEqual(rule);
      expect(await rulesBrokenBy(path, use("fstatSync", "node:fs"))).toEqual([]);
    },
  );

  it("and not what SessionTree does", async () => {
    const source = 'tree.remove("x", { recursive: true });\n';
    expect(await rulesBrokenBy("apps/worker/src/some.ts", source)).toEqual([]);
  });
});
