import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { processesMentioning } from "../../infra/setup/process-table.ts";
import { runSuites } from "../../infra/setup/run-suites.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "run-suites-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Runs a shell script as the test runner. */
async function runScript(script: string) {
  return await runSuites(["sh", "-c", script, "sh", directory], {
    cwd: directory,
    environment: { PATH: process.env.PATH },
    reportFile: join(directory, "report.json"),
    endTimeoutMs: 100,
  });
}

it("gives the runner's exit status", async () => {
  expect(await runScript('touch "$1/report.json"; exit 3')).toEqual({ status: 3, leftProcesses: [] });
});

it("names and kills what the tests left", async () => {
  const { status, leftProcesses } = await runScript('setsid tail -f "$1/left" --retry 2>/dev/null & exit 0');
  expect(status).toBe(0);
  expect(leftProcesses).toEqual([`tail -f ${directory}/left --retry`]);
  expect(await processesMentioning(`${directory}/left`)).toEqual([]);
});

it("ends a runner that has reported and does not end", async () => {
  const script = 'touch "$1/report.json"; while :; do sleep 1; done';
  expect(await runScript(script)).toMatchObject({ status: 1 });
  expect(await processesMentioning(directory)).toEqual([]);
});
