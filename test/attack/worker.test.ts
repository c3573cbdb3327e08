import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { platforms } from "../conformance/sandbox/platforms.ts";
import type { Api, ApiMessage } from "../support/api.ts";
import type { AppProcess } from "../support/app-process.ts";
import { Fleet } from "../support/fleet.ts";
import { mailboxRunner } from "../support/mailbox-runner.ts";
import { copySources, patchSources } from "../support/source-copy.ts";

const MIB = 1024 ** 2;
/** A line that the agent writes, and what a worker may need for whatever it makes of it. */
const LINE_MIB = 256;
const GROWTH_MAX = 96 * MIB;

const runtimes: Readonly<Record<string, object>> = {
  runc: { runtime: "docker" },
  ...(platforms.some(({ name }) => name === "docker runsc")
    ? { gvisor: { runtime: "docker", ociRuntime: "runsc" } }
    : {}),
  bwrap: { runtime: "bwrap" },
};

interface Target {
  readonly worker: AppProcess;
  /** A directory of the host with a file, `secret`. */
  readonly host: string;
  /** Sends a message of one session. @param kind of agent */
  ask(kind: "acp" | "mailbox", text: string): Promise<ApiMessage>;
}

/** Whether each got what it should not. */
const attacks: Readonly<Record<string, (target: Target) => Promise<boolean>>> = {
  "speaks for another session": async ({ ask }) =>
    ((await ask("acp", "!stray")).replies ?? []).some(({ text }) =>
      text.includes("stray of another session"),
    ),

  "writes to another conversation, by a tool": async ({ ask }) =>
    isForged(await ask("acp", '!tool send_message {"text":"forged","to":"victim"}')),

  "writes to another conversation, by a row": async ({ ask }) =>
    isForged(
      await ask(
        "mailbox",
        `row({ platform: "victim", channel: "http", content: { text: "forged" } }); say("mine")`,
      ),
    ),

  "has a file of the host sent, along a link": async ({ ask, host }) => {
    await ask("acp", `$ ln -s ${host} link`);
    const call = JSON.stringify({ text: "here", files: ["/session/workspace/link/secret"] });
    const { replies = [] } = await ask("acp", `!tool send_message ${call}`);
    return replies.some(({ artifacts }) => artifacts.some(({ name }) => name === "secret"));
  },

  "has the worker hold a line without an end": async ({ ask, worker }) => {
    const before = await peakMemory(worker.pid);
    await ask("acp", `!flood ${LINE_MIB}`);
    return (await peakMemory(worker.pid)) - before > GROWTH_MAX;
  },
};

function isForged({ replies = [] }: ApiMessage): boolean {
  return replies.some(({ conversation, text }) => conversation === "victim" && text === "forged");
}

/** In bytes, since this was asked last (proc_pid_clear_refs(5)). */
async function peakMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  await writeFile(`/proc/${pid}/clear_refs`, "5");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

describe.each([
  ["as it is", undefined, false],
  ["without its checks", join(import.meta.dirname, "unchecked-worker.patch"), true],
])("a worker %s", (_, patch, succeeds) => {
  let root: string | undefined;
  let fleet: Fleet;
  let api: Api;
  let host: string;

  beforeAll(async () => {
    if (patch !== undefined) {
      root = await mkdtemp(join(tmpdir(), "longshore-unchecked-"));
      await copySources(root);
      await patchSources(root, patch);
    }
    const agents = Object.entries(runtimes).flatMap(([name, runtime]) => [
      [`acp-${name}`, { ...runtime, retry: { attempts: 1 } }],
      [`mailbox-${name}`, { ...runtime, contract: "mailbox-db", command: mailboxRunner }],
    ]);
    fleet = await Fleet.start({
      agents: Object.fromEntries(agents),
      ...(root === undefined ? {} : { root }),
    });
    host = join(fleet.directory, "host");
    await mkdir(host);
    await writeFile(join(host, "secret"), "what no session may see");
    ({ api } = await fleet.startDispatcher());
  });
  afterAll(async () => {
    await fleet[Symbol.asyncDispose]();
    if (root !== undefined) await rm(root, { recursive: true });
  });

  describe.each(Object.keys(runtimes))("an agent in %s", (runtime) => {
    let worker: AppProcess;
    beforeAll(async () => {
      worker = await fleet.startWorker();
    });
    afterAll(() => worker.stop());

    it.each(Object.keys(attacks))(`${succeeds ? "it" : "in vain, it"} %s`, async (name) => {
      const ask = (kind: string, text: string) =>
        api.ask(`${runtime} ${name}`, `${kind} ${text.slice(0, 8)}`, text, { agent: `${kind}-${runtime}` });
      expect(await attacks[name]?.({ ask, worker, host })).toBe(succeeds);
      // Whatever it was, the next session is served.
      const next = await api.ask(`${runtime} after ${name}`, "next", "$ echo served");
      expect(next.replies?.[0]?.text).toContain("served");
    });
  });
});
