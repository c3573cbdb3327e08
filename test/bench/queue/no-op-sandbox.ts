import { Readable, Writable } from "node:stream";
import type { Sandbox, SandboxExit, SandboxRuntime, SandboxSpec } from "@longshore/sandbox";

/** What the agent in it answers to every prompt. */
const ANSWER = "done";
const SESSION = "bench";

interface Request {
  readonly id?: number | string;
  readonly method?: string;
}

export interface NoOpSandboxOptions {
  /** Told of each prompt that reached an agent. */
  readonly onPrompt?: (spec: SandboxSpec) => void;
}

/** Sandboxes without any process: an agent that speaks the protocol, answers every prompt at once, and touches no file. */
export class NoOpSandboxRuntime implements SandboxRuntime {
  readonly name = "bwrap";
  readonly #onPrompt: (spec: SandboxSpec) => void;

  constructor({ onPrompt = () => undefined }: NoOpSandboxOptions = {}) {
    this.#onPrompt = onPrompt;
  }

  async check() {
    return { version: "none", weaknesses: [] };
  }

  async start(spec: SandboxSpec): Promise<Sandbox> {
    return new NoOpSandbox(spec.labels.nonce, () => this.#onPrompt(spec));
  }

  async reap() {
    return { removed: [], stuck: [] };
  }
}

/** See `Sandbox`; its agent is a function of this process. */
class NoOpSandbox implements Sandbox {
  readonly id: string;
  readonly stdout: Readable;
  readonly stdin: Writable;
  readonly exited: Promise<SandboxExit>;
  readonly #exit: (exit: SandboxExit) => void;

  constructor(id: string, onPrompt: () => void) {
    this.id = id;
    const { promise, resolve } = Promise.withResolvers<SandboxExit>();
    this.exited = promise;
    this.#exit = resolve;
    const stdout = new Readable({ read: () => undefined });
    const answer = (line: string) => {
      const { id, method } = JSON.parse(line) as Request;
      if (id === undefined || method === undefined) return;
      if (method === "session/prompt") {
        onPrompt();
        stdout.push(UPDATE);
      }
      stdout.push(`${JSON.stringify({ jsonrpc: "2.0", id, result: RESULTS[method] ?? {} })}\n`);
    };
    let rest = "";
    this.stdout = stdout;
    this.stdin = new Writable({
      decodeStrings: false,
      write(chunk: Buffer | string, _encoding, done) {
        const lines = (rest + chunk.toString()).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) answer(line);
        done();
      },
    });
  }

  stderrTail(): string {
    return "";
  }

  async pause(): Promise<void> {}

  async resume(): Promise<void> {}

  async stop(): Promise<void> {
    await this.destroy();
  }

  async destroy(): Promise<void> {
    this.stdout.destroy();
    this.stdin.destroy();
    this.#exit({ exitCode: 0, signal: null, outOfMemory: false });
  }
}

const RESULTS: Readonly<Record<string, object>> = {
  initialize: { protocolVersion: 1, agentCapabilities: {} },
  "session/new": { sessionId: SESSION },
  "session/prompt": { stopReason: "end_turn" },
};

const UPDATE = `${JSON.stringify({
  jsonrpc: "2.0",
  method: "session/update",
  params: {
    sessionId: SESSION,
    update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text: ANSWER } },
  },
})}\n`;
