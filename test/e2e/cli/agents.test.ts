import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { claude, installNpmAgent } from "../../../infra/setup/npm-agent.ts";
import { repositoryRoot } from "../../../infra/setup/paths.ts";
import { MessagesApi } from "../../support/messages-api.ts";
import { longshore } from "./longshore.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "longshore-agents-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const run = (...args: string[]) => longshore(args, { environment: process.env });
const talk = (path: string, input: string) =>
  longshore(["agents", "try", path], { environment: process.env, input });

it("an agent of a shell script is begun by one command and answers by the next, and remembers", async () => {
  const path = join(directory, "parrot");
  const created = await run("agents", "new", path, "--template", "exec");
  expect(created).toMatchObject({ status: 0, stderr: "" });
  expect(created.stdout).toContain("agents try");
  const talked = await talk(path, "hello\nagain\n");
  expect(talked.status, talked.stderr).toBe(0);
  expect(talked.stdout).toBe(
    "You said: hello\nThat makes 1 lines so far.\nYou said: again\nThat makes 2 lines so far.\n",
  );
});

it("an agent of the Agent Client Protocol is begun and answers, and remembers", async () => {
  const path = join(directory, "echo");
  expect(await run("agents", "new", path)).toMatchObject({ status: 0, stderr: "" });
  const talked = await talk(path, "hello\nagain\n");
  expect(talked.status, talked.stderr).toBe(0);
  expect(talked.stdout).toBe(
    "You said: hello\nBefore that you had said 0 things.\nYou said: again\nBefore that you had said 1 things.\n",
  );
});

it("Claude answers, with a key that it never has", { timeout: 240_000 }, async () => {
  await using provider = await MessagesApi.start();
  const path = join(directory, "agent-claude");
  await cp(await installNpmAgent(claude), path, { recursive: true, verbatimSymlinks: true });
  // The same, but that its provider is the stand-in, which is in our own network.
  const definition = await readFile(join(path, "agent.yaml"), "utf8");
  await writeFile(
    join(path, "agent.yaml"),
    definition.replace('"https://api.anthropic.com"', `${provider.url}\n        private: true`),
  );
  provider.answer = ({ said }) => [{ type: "text", text: `I have heard ${said.length} things.` }];
  const environment = {
    ...process.env,
    ANTHROPIC_API_KEY: provider.key,
    NODE_EXTRA_CA_CERTS: provider.certificateFile,
  };
  const asked = await longshore(["agents", "try", path, "Hello"], { environment });
  expect(asked.status, asked.stderr).toBe(0);
  expect(asked.stdout).toMatch(/^I have heard \d+ things\.\n$/);
  expect(provider.refused).toEqual([]);
});

it("the template is of the protocol's library that the worker has", async () => {
  const read = async (path: string) =>
    JSON.parse(await readFile(join(repositoryRoot, path), "utf8")).dependencies["@agentclientprotocol/sdk"];
  expect(await read("apps/cli/templates/acp/package.json")).toBe(await read("apps/worker/package.json"));
});

it("nothing is overwritten, and a name that no agent can have is refused", async () => {
  await writeFile(join(directory, "precious"), "mine");
  const full = await run("agents", "new", directory);
  expect(full).toMatchObject({ status: 2, stderr: expect.stringMatching(/longshore-agents-|precious/) });
  expect(await readFile(join(directory, "precious"), "utf8")).toBe("mine");
  expect(await run("agents", "new", join(directory, "No Name"))).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("1 to 64 characters"),
  });
  expect(await run("agents", "new", join(directory, "x"), "--template", "wasm")).toMatchObject({ status: 2 });
});

it("what is no agent's directory is told, with what is missing", async () => {
  const path = join(directory, "half");
  await run("agents", "new", path, "--template", "exec");
  await rm(join(path, "Dockerfile"));
  expect(await run("agents", "try", path)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/can't read .*Dockerfile/),
  });
  await writeFile(join(path, "Dockerfile"), "FROM scratch\n");
  await writeFile(join(path, "agent.yaml"), "one: {}\ntwo: {}\n");
  expect((await run("agents", "try", path)).stderr).toContain("one name with its definition");
  await writeFile(join(path, "agent.yaml"), "one: [\n");
  expect(await run("agents", "try", path)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/^longshore: \S+agent\.yaml: .+\n$/),
  });
});
