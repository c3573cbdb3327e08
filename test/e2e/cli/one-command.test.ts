import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, it } from "vitest";
import { nodeBinary, repositoryRoot } from "../../../infra/setup/paths.ts";
import { processesMentioning } from "../../../infra/setup/process-table.ts";
import { engineAt } from "../../../infra/setup/provided-services.ts";
import { waitUntil } from "../../../infra/setup/wait-until.ts";
import { longshore } from "./longshore.ts";

/** What the command has for temporary files, and nobody else. */
let temporary: string;
let child: ChildProcess | undefined;

beforeEach(async () => {
  temporary = await mkdtemp(join(tmpdir(), "longshore-one-command-"));
  // Sandboxes run as users of their own.
  await chmod(temporary, 0o711);
});
afterEach(async () => {
  if (child?.exitCode === null && child.signalCode === null) {
    child.kill("SIGTERM");
    await once(child, "exit");
  }
  await rm(temporary, { recursive: true, force: true });
});

function start(command: readonly string[], environment: NodeJS.ProcessEnv) {
  const [program = "", ...args] = command;
  const started = spawn(program, args, {
    cwd: repositoryRoot,
    // npm's own cache of compiled code is the machine's, and none of ours.
    env: { ...process.env, ...environment, TMPDIR: temporary, NODE_DISABLE_COMPILE_CACHE: "1" },
    stdio: ["ignore", "pipe", "pipe"],
    // A terminal's Ctrl-C goes to the whole group.
    detached: true,
  });
  child = started;
  return started;
}

/** No file, process or mount of the command is there any more. */
async function expectNothingLeft(): Promise<void> {
  expect(await readdir(temporary)).toEqual([]);
  expect(await processesMentioning(temporary)).toEqual([]);
  expect(await readFile("/proc/self/mounts", "utf8")).not.toContain(temporary);
}

it("npm run demo shows the main job with a worker killed in the middle, and leaves nothing behind", async () => {
  const engine = process.env.DOCKER_HOST;
  if (!engine) throw new Error("DOCKER_HOST is not set: run these tests by `npm test`");
  const demo = start(["npm", "run", "--silent", "demo"], {});
  const [output, errors] = await Promise.all([text(demo.stdout), text(demo.stderr), once(demo, "close")]);
  expect(demo.exitCode, errors).toBe(0);
  expect(output).toContain("sandbox docker");
  expect(output).toMatch(/^ +\d+ America$/m);
  expect(output).toMatch(/^\d+ zones in all$/m);
  expect(output).toContain("killed worker 1");
  expect(output).toContain("its worker is gone; another one starts the turn again");
  expect(output).toMatch(/^10 regions$/m);
  expect(output).toMatch(/^generation 4 .* turn .* answered .* 1 reply$/m);
  expect(output).toMatch(/^generation 3 .* takeover .* no message/m);
  expect(output).toMatch(/workspace\/zones\.txt$/m);
  await expectNothingLeft();
  const containers = await engineAt(engine).listContainers({ all: true });
  const sources = containers.flatMap(({ Mounts }) => Mounts.map(({ Source }) => Source));
  expect(sources.filter((source) => source.startsWith(temporary))).toEqual([]);
});

it("npm run dev serves until Ctrl-C, under bubblewrap where there is no engine, and leaves nothing behind", async () => {
  // A named engine that does not answer is none.
  const dev = start([nodeBinary, "infra/setup/run.mjs", "dev"], {
    DOCKER_HOST: `unix://${temporary}/no.sock`,
    PORT: "0",
  });
  let output = "";
  for (const stream of [dev.stdout, dev.stderr]) {
    stream.setEncoding("utf8").on("data", (piece: string) => {
      output += piece;
    });
  }
  const line = /export LONGSHORE_URL=(\S+) LONGSHORE_KEY=(\S+)/;
  await waitUntil(() => line.test(output) || dev.exitCode !== null, {
    what: "the fleet",
    timeoutMs: 90_000,
  });
  const [, url, key] = line.exec(output) ?? [];
  expect(output).toContain("no Docker engine, so bubblewrap");
  const environment = { ...process.env, LONGSHORE_URL: url, LONGSHORE_KEY: key };
  const { stdout } = await longshore(["send", "$ ls /session; id -u"], { environment });
  expect(stdout).toMatch(/^home\ninbox\noutbox\nworkspace\n[1-9]\d*\n$/);
  process.kill(-(dev.pid as number), "SIGINT");
  expect(await once(dev, "exit"), output).toEqual([0, null]);
  await expectNothingLeft();
});
