import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import { EngineProxy } from "../../support/engine-proxy.ts";
import { Fleet, required } from "../../support/fleet.ts";

const LIMITS = { memory: "256MiB", cpus: 2, pids: 64, disk: "4MiB", output: "1MiB" };

/** Agents that differ from `shell` in what a case is about. What is fine needs a part of these limits only. */
const definitions = {
  shell: {},
  hasty: { limits: { ...LIMITS, turn: "5s" } },
  impatient: { limits: { ...LIMITS, idle: "4s" }, retry: { attempts: 1 } },
  uncancellable: { limits: { ...LIMITS, turn: "5s" }, retry: { attempts: 1 } },
} as const;
const runtimes = ["bwrap", "docker"] as const;

interface Case {
  readonly name: string;
  readonly agent: keyof typeof definitions;
  readonly text: string;
  readonly code: string;
  readonly attempts: number;
}

/** Whatever can be wrong with a turn that is the message's own fault, or that nothing can mend. */
const cases: readonly Case[] = [
  {
    name: "the agent exits in mid-turn",
    agent: "shell",
    text: "!crash",
    code: "AGENT_EXITED",
    attempts: 2,
  },
  {
    name: "the agent answers with an error",
    agent: "shell",
    text: "!error no such luck",
    code: "AGENT_ERROR",
    attempts: 2,
  },
  {
    name: "the agent needs more memory than its limit",
    agent: "shell",
    text: "!memory",
    code: "AGENT_OUT_OF_MEMORY",
    attempts: 2,
  },
  {
    name: "the agent writes a line without an end",
    agent: "shell",
    text: "!flood",
    code: "AGENT_ERROR",
    attempts: 2,
  },
  {
    name: "the turn is longer than its limit",
    agent: "hasty",
    text: "$ echo dirt > counter; while :; do echo busy; sleep 0.1; done",
    code: "TURN_TIMEOUT",
    attempts: 2,
  },
  {
    name: "the agent gives no sign of life",
    agent: "impatient",
    text: "$ echo dirt > counter; sleep 60",
    code: "IDLE_TIMEOUT",
    attempts: 1,
  },
  {
    name: "the agent minds no cancelling",
    agent: "uncancellable",
    text: "!hang",
    code: "TURN_TIMEOUT",
    attempts: 1,
  },
  {
    name: "the session grows beyond its quota",
    agent: "shell",
    text: "$ echo dirt > counter; head -c 8000000 /dev/urandom > large",
    code: "QUOTA_EXCEEDED",
    attempts: 0,
  },
];

interface Outcome {
  readonly failed: ApiMessage;
  readonly behind: ApiMessage;
}

describe("a turn that fails", () => {
  let fleet: Fleet;
  let api: Api;
  /** All at once, each in a session of its own: most of what they do is wait. */
  const outcomes = new Map<string, Promise<Outcome>>();

  beforeAll(async () => {
    fleet = await Fleet.start({
      agent: { limits: LIMITS, retry: { attempts: 2, backoff: "50ms", longest: "100ms" } },
      agents: {
        ...Object.fromEntries(
          runtimes.flatMap((runtime) =>
            Object.entries(definitions).map(([name, more]) => [`${runtime}-${name}`, { runtime, ...more }]),
          ),
        ),
        imageless: { runtime: "docker", image: "longshore/no-such-image:1" },
      },
      worker: { places: runtimes.length * cases.length },
    });
    [{ api }] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    for (const runtime of runtimes) {
      for (const case_ of cases) {
        const outcome = run(case_, `${runtime}-${case_.agent}`);
        // Whose test is not there yet to see it.
        outcome.catch(() => undefined);
        outcomes.set(`${runtime} ${case_.name}`, outcome);
      }
    }
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  /** A turn that is fine, the one that fails, and one that waits behind it. */
  async function run({ name, text }: Case, agent: string): Promise<Outcome> {
    const first = await api.ask(name, "1", "$ echo 1 > counter; echo done", { agent });
    expect(first.replies?.map((reply) => reply.text.trim())).toEqual(["done"]);
    const failing = await api.send(name, "2", text, { agent });
    const behind = await api.ask(name, "3", "$ cat counter; ls", { agent });
    return { failed: await api.message(failing.messageId), behind };
  }

  describe.each(runtimes)("on %s", (runtime) => {
    it.each(cases)("$name: $code, a dead letter, and what waits behind it is served", async (case_) => {
      const { failed, behind } = (await outcomes.get(`${runtime} ${case_.name}`)) as Outcome;
      expect(failed).toMatchObject({
        state: "dead",
        attempts: case_.attempts,
        error: { code: case_.code },
        replies: [{ kind: "notice", text: expect.stringContaining(case_.code) }],
      });
      expect(behind).toMatchObject({ state: "answered", attempts: 0 });
      // From the last generation: nothing of the failed turn is there.
      expect(behind.replies?.map(({ text }) => text.trim())).toEqual(["1\ncounter"]);
    });

    it("of garbage among the agent's lines: it harms nothing", async () => {
      const answered = await api.ask("garbage", "1", "!garbage", { agent: `${runtime}-shell` });
      expect(answered).toMatchObject({ state: "answered", attempts: 0 });
      expect(answered.replies?.map(({ text }) => text.trim())).toEqual(["wrote garbage"]);
    });
  });

  it("for want of its image: a dead letter at once", async () => {
    const failed = await api.ask("c", "1", "hello", { agent: "imageless" });
    expect(failed).toMatchObject({
      state: "dead",
      attempts: 0,
      error: { code: "IMAGE_MISSING" },
      replies: [{ kind: "notice" }],
    });
  });
});

describe("a turn whose engine vanishes", () => {
  it("is tried again without being counted, and costs the worker no place", async () => {
    await using fleet = await Fleet.start({ runtime: "docker", worker: { places: 1 } });
    await using engine = await EngineProxy.start(required("DOCKER_HOST"), join(fleet.directory, "engine"));
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker({ DOCKER_HOST: engine.url });
    await api.ask("c", "1", "$ echo 1 > counter");
    const seen = worker.lines.length;
    const sent = await api.send("c", "2", "$ cat counter; echo 2 > counter; sleep 1; echo done");
    await worker.line(({ msg }) => msg === "prompt sent", seen);
    await engine.vanish();
    const failed = await worker.line(({ msg }) => msg === "turn failed", seen);
    expect(failed).toMatchObject({ kind: "innocent", messageIds: [sent.messageId] });
    await engine.comeBack();
    const answered = await api.ask("c", "2", "known already");
    expect(answered).toMatchObject({ state: "answered", attempts: 0 });
    expect(answered.replies?.map(({ text }) => text.trim())).toEqual(["1\ndone"]);
    expect(await api.file(sent.sessionId, "workspace/counter")).toBe("2\n");
  });
});
