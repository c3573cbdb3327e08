import { spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { claude } from "../../infra/setup/npm-agent.ts";
import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";
import type { Api } from "../support/api.ts";
import type { AppProcess } from "../support/app-process.ts";
import { Fleet } from "../support/fleet.ts";
import { MessagesApi } from "../support/messages-api.ts";
import { ProvidedAgent } from "../support/npm-agent.ts";
import { dockerRunCommand } from "./docker-run.ts";
import { required } from "./required.ts";
import type { Benchmark } from "./row.ts";
import { median } from "./turns.ts";

/** Runs that are not measured, so that both sides find their files in the page cache. */
const WARM_UP = 1;
const RUNS = 7;
/** As `dockerRunCommand` runs it. */
const USER = 200_000;
const GREETING = "Hello.";
/** As `dockerRunCommand` has them. */
const LIMITS = { memory: "1GiB", cpus: 1, pids: 256 };

/**
 * The real Claude agent, whose provider answers at once, from a message to the first text of its answer: cold, in a sandbox
 * that stood ready, and in a lingering activation, next to the same image by `docker run` and an ACP client, which is
 * given the key and the network.
 */
export const benchmark: Benchmark = async function* () {
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await ScratchDirectory.create());
  const engine = required("DOCKER_HOST", "agent");
  const agent = stack.use(await ProvidedAgent.provide(claude, "docker"));
  const provider = stack.use(await MessagesApi.start());
  const { image } = agent.definition(provider) as { readonly image: string };
  const byHand = () => timeByHand({ image, engine, directory: scratch.path, provider });
  const peerCommand = withNetwork(dockerRunCommand(image, "DIRECTORY")).join(" ");

  const startFleet = async (more: object): Promise<{ api: Api; worker: AppProcess }> => {
    const fleet = stack.use(
      await Fleet.start({
        runtime: "docker",
        agent: { ...agent.definition(provider), limits: LIMITS, linger: "0s", ...more },
      }),
    );
    const { api } = await fleet.startDispatcher();
    return { api, worker: await fleet.startWorker({ NODE_EXTRA_CA_CERTS: provider.certificateFile }) };
  };

  const lingering = await startFleet({ linger: "10m" });
  const ours = { cold: [] as number[], followUp: [] as number[] };
  const peer = { first: [] as number[], followUp: [] as number[] };
  for (let run = 0; run < WARM_UP + RUNS; run++) {
    const conversation = `c${run}`;
    ours.cold.push(await timeToText(lingering.api, conversation, "first"));
    ours.followUp.push(await timeToText(lingering.api, conversation, "second"));
    const { first, second } = await byHand();
    peer.first.push(first);
    peer.followUp.push(second);
  }
  const [first, followUp] = [peer.first, peer.followUp].map((times) => median(times.slice(WARM_UP)));
  yield {
    work: "Claude, cold: message to first text",
    unit: "ms",
    ours: median(ours.cold.slice(WARM_UP)),
    peer: first ?? null,
    peerCommand,
    target: { of: "ratio", atMost: 1.1 },
  };
  yield {
    work: "Claude, lingering: what a follow-up takes beyond the agent's own time",
    unit: "ms",
    ours: median(ours.followUp.slice(WARM_UP)) - (followUp ?? Number.NaN),
    peer: null,
    target: { of: "ours", atMost: 10 },
  };

  const warm = await startFleet({ warm: 1 });
  const times = { new: [] as number[], resumed: [] as number[] };
  let taken = 0;
  const next = async (conversation: string, id: string) => {
    await readyOf(warm.worker, ++taken);
    return await timeToText(warm.api, conversation, id);
  };
  for (let run = 0; run < WARM_UP + RUNS; run++) {
    times.new.push(await next(`w${run}`, "first"));
    times.resumed.push(await next(`w${run}`, "second"));
  }
  yield {
    work: "Claude, warm, new session: message to first text",
    unit: "ms",
    ours: median(times.new.slice(WARM_UP)),
    peer: first ?? null,
    peerCommand,
    target: { of: "ratio", atMost: 0.2 },
  };
  yield {
    work: "Claude, warm, resumed session: message to first text",
    unit: "ms",
    ours: median(times.resumed.slice(WARM_UP)),
    peer: first ?? null,
    peerCommand,
    target: { of: "ratio", atMost: 0.6 },
  };
};

/** Waits until so many sandboxes have stood ready since the worker began. */
async function readyOf(worker: AppProcess, count: number): Promise<void> {
  const isReady = ({ msg }: { readonly msg: string }) => msg === "a warm sandbox is ready";
  await worker.line((line) => isReady(line) && worker.lines.filter(isReady).length >= count);
}

/** Sends a message, and gives the ms until the first text of its answer; comes back when the turn has ended. */
async function timeToText(api: Api, conversation: string, id: string): Promise<number> {
  const start = performance.now();
  const response = await api.stream(conversation, id, GREETING);
  let first: number | undefined;
  let seen = "";
  for await (const chunk of response.pipeThrough(new TextDecoderStream())) {
    seen += chunk;
    if (first === undefined && seen.includes('"type":"text"')) first = performance.now() - start;
  }
  if (first === undefined) throw new Error(`no text in the answer: ${seen.slice(-1_000)}`);
  return first;
}

interface ByHand {
  readonly image: string;
  readonly engine: string;
  readonly directory: string;
  readonly provider: MessagesApi;
}

const withNetwork = (command: readonly string[]): string[] =>
  command.map((word, index) => (command[index - 1] === "--network" ? "host" : word));

/** `docker run`, `initialize`, `session/new` and two prompts: ms to the first text of the first and of the second. */
async function timeByHand({
  image,
  engine,
  directory,
  provider,
}: ByHand): Promise<{ readonly first: number; readonly second: number }> {
  const session = await mkdtemp(join(directory, "by-hand-"));
  for (const name of ["", "workspace", "home"]) {
    await mkdir(join(session, name), { recursive: true });
    await chown(join(session, name), USER, USER);
  }
  const environment = [`ANTHROPIC_BASE_URL=${provider.plainUrl}`, `ANTHROPIC_API_KEY=${provider.key}`];
  const options = environment.flatMap((variable) => ["--env", variable]);
  const [program = "", ...args] = withNetwork(dockerRunCommand(image, session)).toSpliced(2, 0, ...options);
  const start = performance.now();
  const child = spawn(program, args, {
    env: { ...process.env, DOCKER_HOST: engine },
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = once(child, "close");
  try {
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    let textAt: number | undefined;
    const request = async (id: number, method: string, params: object) => {
      child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
      for (;;) {
        const { value, done } = await lines.next();
        if (done) throw new Error(`the agent ended in ${method}`);
        if (value.includes('"agent_message_chunk"')) textAt ??= performance.now();
        const answer = JSON.parse(value) as {
          id?: number;
          result?: Record<string, unknown>;
          error?: unknown;
        };
        if (answer.id !== id) continue;
        if (answer.error !== undefined) throw new Error(`${method} failed: ${value}`);
        return answer.result;
      }
    };
    await request(1, "initialize", { protocolVersion: 1, clientCapabilities: {} });
    const opened = await request(2, "session/new", { cwd: "/session/workspace", mcpServers: [] });
    const ask = async (id: number): Promise<number> => {
      textAt = undefined;
      const prompt = [{ type: "text", text: GREETING }];
      await request(id, "session/prompt", { sessionId: opened?.sessionId, prompt });
      if (textAt === undefined) throw new Error("the agent said nothing");
      return textAt;
    };
    const first = (await ask(3)) - start;
    const asked = performance.now();
    return { first, second: (await ask(4)) - asked };
  } finally {
    child.stdin.end();
    child.kill("SIGTERM");
    await ended;
    await rm(session, { recursive: true, force: true });
  }
}
