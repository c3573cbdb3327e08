import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

/** What a command of the tests is: a few lines of shell, which is all that an agent of this contract needs. */
const sh = (...lines: readonly string[]) => ["/bin/sh", "-c", lines.join("\n")];

/** Says what it reads, as it stands. */
const ECHO = sh('printf "%s" "$(cat)"');

/** What makes the reply is the message's text: a script. */
const RUN = sh(
  'prompt=$(cat); script=$(/usr/local/bin/node -e "process.stdout.write(JSON.parse(process.argv[1]).text)" "$prompt")',
  'eval "$script"',
);

const MiB = 1024 ** 2;

/** The `exec` contract, on one runtime. */
export function describeExec(runtime: "docker" | "bwrap"): void {
  describe(`a command as an agent, on ${runtime}`, () => {
    let fleet: Fleet;
    let api: Api;
    let worker: AppProcess;

    beforeAll(async () => {
      const exec = { contract: "exec", runtime };
      fleet = await Fleet.start({
        runtime,
        agents: {
          echo: { ...exec, command: ECHO },
          run: { ...exec, command: RUN },
          once: { ...exec, command: RUN, retry: { attempts: 1 } },
          impatient: {
            ...exec,
            command: RUN,
            limits: { idle: "2s" },
            retry: { attempts: 1 },
          },
          hungry: {
            ...exec,
            command: RUN,
            limits: { memory: "128MiB", cpus: 2, pids: 64 },
            retry: { attempts: 1 },
          },
          hasty: { ...exec, command: RUN, limits: { turn: "3s" }, retry: { attempts: 1 } },
          flooding: { ...exec, command: RUN, limits: { output: "1MiB" }, retry: { attempts: 1 } },
          long: { ...exec, command: RUN, limits: { output: "64MiB" } },
          deaf: { ...exec, command: sh("echo read") },
          gone: { ...exec, command: ["/no/such/program"] },
          all: { ...exec, command: RUN, reply: "all" },
          interrupted: { ...exec, command: RUN, busy: "interrupt" },
        },
      });
      [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    });
    afterAll(() => fleet[Symbol.asyncDispose]());

    let messages = 0;
    const ask = (agent: string, conversation: string, text: string, more: Record<string, unknown> = {}) =>
      api.ask(conversation, `m${++messages}`, text, { agent, ...more });
    const text = ({ replies, error }: ApiMessage) => {
      expect(error).toBeUndefined();
      return replies?.map((reply) => reply.text);
    };
    /** Sends a script, and waits until it has said `started`. `ended` waits for its end. */
    const send = async (agent: string, conversation: string, script: string) => {
      const id = `m${++messages}`;
      const sent = await api.send(conversation, id, script, { agent });
      const events = await api.request("GET", `/v1/sessions/${sent.sessionId}/events`);
      let seen = "";
      for await (const chunk of events.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        seen += chunk;
        if (seen.includes('"text":"started')) break;
      }
      return { ...sent, ended: () => api.ask(conversation, id, script, { agent }) };
    };

    it("reads its prompt as JSON from standard input", async () => {
      const data = Buffer.from("a,b").toString("base64");
      await api.send("prompt", "before", "by the way", { agent: "echo", wake: false });
      const answered = await ask("echo", "prompt", "hello\nthere", {
        sender: { id: "ada", name: "Ada" },
        thread: "t",
        attachments: [{ name: "t.csv", contentType: "text/csv", data }],
      });
      const [reply = ""] = text(answered) ?? [];
      expect(JSON.parse(reply)).toEqual({
        session: answered.sessionId,
        text: "hello\nthere",
        messages: [
          {
            id: answered.messageId,
            text: "hello\nthere",
            sender: { id: "ada", name: "Ada" },
            channel: "http",
            conversation: "prompt",
            thread: "t",
            at: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
            wake: true,
            attachments: [
              {
                name: "t.csv",
                path: `/session/inbox/${answered.messageId}/t.csv`,
                contentType: "text/csv",
                sizeBytes: 3,
              },
            ],
          },
        ],
      });
    });

    it("is given what was said before without a wake, and what waits for it to be answered", async () => {
      await api.send("context", "c1", "by the way", { agent: "echo", wake: false });
      const [reply = ""] = text(await ask("echo", "context", "and now")) ?? [];
      const prompt = JSON.parse(reply);
      expect(prompt.text).toBe("and now");
      expect(
        prompt.messages.map((message: { text: string; wake: boolean }) => [message.text, message.wake]),
      ).toEqual([
        ["by the way", false],
        ["and now", true],
      ]);
    });

    it("answers by its output; the directory is kept, and each turn is a process of its own", async () => {
      expect(text(await ask("run", "plain", "echo $$ >> pids; echo one; echo $HOME $PWD"))).toEqual([
        "one\n/session/home /session/workspace\n",
      ]);
      // What it left running is gone with it.
      expect(text(await ask("run", "plain", "sleep 1000 & echo two"))).toEqual(["two\n"]);
      const [found = ""] =
        text(await ask("run", "plain", "wc -l < pids; ls /proc | grep -c '^[0-9]*$'")) ?? [];
      const [lines, processes] = found.trim().split(/\s+/).map(Number);
      expect(lines).toBe(1);
      expect(processes).toBeLessThan(8);
    });

    it("says nothing: a success without a reply", async () => {
      expect(text(await ask("run", "silent", "true"))).toEqual([]);
    });

    it("may say what the reply is, give files with it, and say on in between", async () => {
      const script = [
        "echo working",
        "mkdir -p out; echo 12345 > out/a.txt; echo in the outbox > /session/outbox/b.txt",
        `echo '{"type":"delta","text":"still at it"}'`,
        `echo '{"type":"file","path":"out/a.txt"}'`,
        `echo '{"type":"file","path":"../home/.profile"}'`,
        `echo '{"type":"file","path":"/none.txt"}'`,
        `echo '{"type":"reply","text":"first"}'`,
        `echo '{"type":"reply","text":"here you are"}'`,
        "echo done",
      ].join("\n");
      const answered = await ask("run", "lines", script);
      expect(text(answered)).toEqual(["here you are"]);
      expect(answered.replies?.[0]).toMatchObject({
        artifacts: [
          { name: "a.txt", sizeBytes: 6 },
          { name: "b.txt", sizeBytes: 14 },
        ],
        refusedFiles: [{ name: "../home/.profile" }, { name: "none.txt" }],
      });
      // The one that it named stays where it is.
      expect(text(await ask("run", "lines", "cat out/a.txt; ls /session/outbox"))).toEqual(["12345\n"]);
      expect(text(await ask("all", "lines", script))).toEqual(["first\n\nhere you are"]);
    });

    it("fails by its exit status, with the last that it wrote to standard error", async () => {
      const failed = await ask("once", "fails", "echo half > half; echo lost; echo why >&2; exit 3");
      expect(failed).toMatchObject({
        state: "dead",
        error: { code: "AGENT_EXITED", message: expect.stringMatching(/exited with 3.*why/s) },
      });
      // What it did is dropped with it.
      expect(text(await ask("once", "fails", "ls"))).toEqual([]);
      const killed = await ask("once", "fails", "kill -9 $$");
      expect(killed).toMatchObject({ state: "dead", error: { code: "AGENT_EXITED" } });
    });

    it("fails where it says more than a commit may hold, and the next message is served", async () => {
      const failed = await ask("long", "long", "head -c 40000000 /dev/zero | tr '\\0' a");
      expect(failed).toMatchObject({ state: "dead", error: { code: "COMMIT_TOO_LARGE" } });
      expect(text(await ask("long", "long", "echo next"))).toEqual(["next\n"]);
    });

    it("has answered where it says something and then nothing for the idle limit: marked as cut", async () => {
      expect(text(await ask("impatient", "idle", "echo kept > kept; echo so far; sleep 1000"))).toEqual([
        "so far\n[cut: nothing more came for 2000 ms]",
      ]);
      expect(text(await ask("impatient", "idle", "cat kept"))).toEqual(["kept\n"]);
      expect(await ask("impatient", "idle", "sleep 1000")).toMatchObject({
        state: "dead",
        error: { code: "IDLE_TIMEOUT" },
      });
      expect(await ask("hasty", "turn", "while :; do echo on; sleep 0.3; done")).toMatchObject({
        state: "dead",
        error: { code: "TURN_TIMEOUT" },
      });
    });

    it.each([
      ["without an end", "head -c 1100000000 /dev/zero | tr '\\0' 'x'"],
      ["that seems a directive, and is none", "printf '{'; head -c 40000000 /dev/zero | tr '\\0' 'x'"],
      ["after line", "yes | head -c 100000000"],
    ])("may write a line %s: cut, and counted", async (_, script) => {
      const [reply = ""] = text(await ask("flooding", "flood", script)) ?? [];
      expect(Buffer.byteLength(reply)).toBeLessThan(MiB + 100);
      expect(reply).toMatch(/\n\[cut: \d{8,} more bytes\]$/);
    });

    it("may write what is no UTF-8", async () => {
      expect(text(await ask("run", "bytes", "printf 'a\\377\\303b\\342\\202'"))).toEqual([
        "a\ufffd\ufffdb\ufffd",
      ]);
    });

    it("need not read its prompt", async () => {
      expect(text(await ask("deaf", "unread", "x".repeat(200_000)))).toEqual(["read\n"]);
    });

    it("that is not there is a dead letter at once", async () => {
      expect(await ask("gone", "gone", "hello")).toMatchObject({
        state: "dead",
        error: { code: "COMMAND_FAILED" },
      });
    });

    it("can use up its memory: told as that", async () => {
      const eater = "exec /usr/local/bin/node -e 'const a = []; for (;;) a.push(Buffer.alloc(8e6, 1))'";
      expect(await ask("hungry", "memory", eater)).toMatchObject({
        state: "dead",
        error: { code: expect.stringMatching(/^AGENT_(OUT_OF_MEMORY|EXITED)$/) },
      });
    });

    it("can be cancelled: what it did stays, and it has time to come to an end", async () => {
      const sent = await send(
        "run",
        "cancel",
        "trap 'echo ended > ended; exit 0' TERM; echo started; sleep 1000 & wait",
      );
      await api.json("POST", `/v1/sessions/${sent.sessionId}/cancel`, {});
      expect(await sent.ended()).toMatchObject({ state: "cancelled", replies: [] });
      expect(text(await ask("run", "cancel", "cat ended"))).toEqual(["ended\n"]);
    });

    it("can be interrupted by the next message", async () => {
      const sent = await send(
        "interrupted",
        "interrupt",
        "trap 'exit 0' TERM; echo started; sleep 1000 & wait",
      );
      expect(text(await ask("interrupted", "interrupt", "echo next"))).toEqual(["next\n"]);
      expect(await sent.ended()).toMatchObject({ state: "cancelled" });
    });

    it("goes on elsewhere when its worker is killed in the middle of a turn", async () => {
      text(await ask("run", "killed", "echo 1 >> turns; cat turns"));
      const sent = await send("run", "killed", "echo 2 >> turns; echo started; sleep 3; cat turns");
      const other = await fleet.startWorker();
      await worker.kill();
      worker = other;
      expect(text(await sent.ended())).toEqual(["started\n1\n2\n"]);
    });
  });
}
