import { type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
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
const FOLLOW_UPS = 40;
/** Runs of the requests to the provider, by turns. */
const REQUEST_RUNS = 5;
/**
 * What an agent does after its answer would otherwise take from the next turn, on two processors, and what one that was
 * started ahead does after it was ready from its first.
 */
const QUIET_MS = 1_000;
/** As `dockerRunCommand` runs it. */
const USER = 200_000;
const GREETING = "Hello.";
/** As `dockerRunCommand` has them. */
const LIMITS = { memory: "1GiB", cpus: 1, pids: 256 };

/**
 * The real Claude agent, whose provider answers at once, from a message to the first text of its answer: cold, in a sandbox
 * that stood ready, and in a lingering activation, next to the same image by `docker run` and an ACP client, which is
 * given the key and the network.
 *
 * What a follow-up takes beyond the agent's own time is not seen beside another instance: their times differ by more, from one
 * to the next. So the agent's time is taken in the very turn, by a program between the worker and the agent; what by hand is
 * part of it is measured by itself: a line's way into a container of `docker run` and back, and a request to the provider, which
 * the proxy makes longer.
 */
export const benchmark: Benchmark = async function* () {
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await ScratchDirectory.create());
  const engine = required("DOCKER_HOST", "agent");
  const agent = stack.use(await ProvidedAgent.provide(claude, "docker"));
  const provider = stack.use(await MessagesApi.start());
  const { image } = agent.definition(provider) as { readonly image: string };
  const byHand = () => AgentByHand.start({ image, engine, directory: scratch.path, provider });
  const peerCommand = withNetwork(dockerRunCommand(image, "DIRECTORY")).join(" ");

  const startFleet = async (more: object, level: string): Promise<{ api: Api; worker: AppProcess }> => {
    const fleet = stack.use(
      await Fleet.start({
        runtime: "docker",
        agent: { ...agent.definition(provider), limits: LIMITS, linger: "0s", ...more },
        agents: {
          timed: { command: [...(await script("timed-agent.mjs")), ...claude.command], warm: 0 },
          requests: { contract: "exec", command: await script("provider-requests.mjs"), warm: 0 },
        },
      }),
    );
    const { api } = await fleet.startDispatcher({ LOG_LEVEL: "info" });
    const environment = { NODE_EXTRA_CA_CERTS: provider.certificateFile, LOG_LEVEL: level };
    return { api, worker: await fleet.startWorker(environment) };
  };

  const lingering = await startFleet({ linger: "10m" }, "info");
  const ours: number[] = [];
  const peer: number[] = [];
  for (let run = 0; run < WARM_UP + RUNS; run++) {
    ours.push(await timeToText(lingering.api, `c${run}`, "first"));
    await using hand = await byHand();
    peer.push(await hand.timeToText());
  }
  const first = median(peer.slice(WARM_UP));
  yield {
    work: "Claude, cold: message to first text",
    unit: "ms",
    ours: median(ours.slice(WARM_UP)),
    peer: first,
    peerCommand,
    target: { of: "ratio", atMost: 1.1 },
  };

  const beyond = await timeFollowUps(lingering.api);
  const { body } = provider.requests.at(-1) as { readonly body: object };
  const bytes = `${JSON.stringify(body).length}`;
  const requests = { ours: [] as number[], peer: [] as number[] };
  for (let run = 0; run < REQUEST_RUNS; run++) {
    const { replies } = await lingering.api.ask("requests", `${run}`, bytes, { agent: "requests" });
    requests.ours.push(Number(replies?.[0]?.text));
    requests.peer.push(await requestsByHand({ image, engine, directory: scratch.path, provider }, bytes));
  }
  const proxy = median(requests.ours) - median(requests.peer);
  const way = median((await timeEchoes({ image, engine, directory: scratch.path })).slice(WARM_UP));
  yield {
    work: "Claude, lingering: what a follow-up takes beyond the agent's own time",
    unit: "ms",
    ours: median(beyond.slice(WARM_UP)) + proxy - way,
    peer: null,
    target: { of: "ours", atMost: 10 },
  };
  yield { work: "  of it in the proxy", unit: "ms", ours: proxy, peer: null };
  yield { work: "  a line's way into a container and back, by hand", unit: "ms", ours: null, peer: way };

  // It says there when a sandbox stands ready.
  const warm = await startFleet({ warm: 1 }, "debug");
  const times = { new: [] as number[], resumed: [] as number[] };
  let taken = 0;
  const next = async (conversation: string, id: string) => {
    await readyOf(warm.worker, ++taken);
    await delay(QUIET_MS);
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
    peer: first,
    peerCommand,
    target: { of: "ratio", atMost: 0.2 },
  };
  yield {
    work: "Claude, warm, resumed session: message to first text",
    unit: "ms",
    ours: median(times.resumed.slice(WARM_UP)),
    peer: first,
    peerCommand,
    target: { of: "ratio", atMost: 0.6 },
  };
};

/** Waits until so many sandboxes have stood ready since the worker began. */
async function readyOf(worker: AppProcess, count: number): Promise<void> {
  const isReady = ({ msg }: { readonly msg: string }) => msg === "a warm sandbox is ready";
  await worker.line((line) => isReady(line) && worker.lines.filter(isReady).length >= count);
}

/** A program of this directory, as a command of a sandbox that has Node.js; a configuration file would take its `${}` for a variable. */
async function script(name: string): Promise<string[]> {
  const text = await readFile(new URL(name, import.meta.url), "utf8");
  return ["/usr/local/bin/node", "--input-type=module", "-e", text];
}

/** The ms that follow-ups take beyond the agent's own. */
async function timeFollowUps(api: Api): Promise<number[]> {
  const total: number[] = [];
  await timeToText(api, "follow-ups", "first", "timed");
  for (let run = 0; run < WARM_UP + FOLLOW_UPS; run++) {
    await delay(QUIET_MS);
    total.push(await timeToText(api, "follow-ups", `${run}`, "timed"));
  }
  const { sessionId } = await api.send("follow-ups", "first", GREETING, { agent: "timed" });
  const answer = await api.request("GET", `/v1/sessions/${sessionId}/files/home/times`);
  const own = (await answer.text()).trimEnd().split("\n").map(Number);
  if (own.length !== total.length + 1)
    throw new Error(`${own.length} turns were timed of ${total.length + 1}`);
  return total.map((time, run) => time - (own[run + 1] as number));
}

/** Sends a message, and gives the ms until the first text of its answer; comes back when the turn has ended. */
async function timeToText(api: Api, conversation: string, id: string, agent = "shell"): Promise<number> {
  const start = performance.now();
  const response = await api.stream(conversation, id, GREETING, { agent });
  let first: number | undefined;
  let seen = "";
  for await (const chunk of response) {
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

/** The ms until a container of `docker run` that repeats what it is told has repeated a line. */
async function timeEchoes({ image, engine, directory }: Omit<ByHand, "provider">): Promise<number[]> {
  const options = ["--entrypoint", "/usr/local/bin/node"];
  const [program = "", ...words] = dockerRunCommand(image, directory).toSpliced(2, 0, ...options);
  const args = [...words, "-e", "process.stdin.pipe(process.stdout)"];
  const env = { ...process.env, DOCKER_HOST: engine };
  const child = spawn(program, args, { env, stdio: ["pipe", "pipe", "ignore"] });
  const ended = once(child, "close");
  const times: number[] = [];
  try {
    for (let run = 0; run < WARM_UP + FOLLOW_UPS; run++) {
      await delay(QUIET_MS);
      const start = performance.now();
      child.stdin.write(`${GREETING}\n`);
      await once(child.stdout, "data");
      times.push(performance.now() - start);
    }
  } finally {
    child.stdin.end();
    await ended;
  }
  return times;
}

/** What `provider-requests.mjs` says where it is given the key and the network. */
async function requestsByHand(
  { image, engine, directory, provider }: ByHand,
  bytes: string,
): Promise<number> {
  const environment = [
    ...[`ANTHROPIC_BASE_URL=${provider.url}`, `ANTHROPIC_API_KEY=${provider.key}`],
    "NODE_EXTRA_CA_CERTS=/certificate.pem",
  ];
  const [entrypoint = "", ...args] = await script("provider-requests.mjs");
  const options = [
    ...environment.flatMap((variable) => ["--env", variable]),
    ...["--volume", `${provider.certificateFile}:/certificate.pem:ro`, "--entrypoint", entrypoint],
  ];
  const [program = "", ...words] = withNetwork(dockerRunCommand(image, directory)).toSpliced(
    2,
    0,
    ...options,
  );
  const env = { ...process.env, DOCKER_HOST: engine };
  const { stdout } = await promisify(execFile)(program, [...words, ...args, bytes], { env });
  return Number(stdout);
}

const withNetwork = (command: readonly string[]): string[] =>
  command.map((word, index) => (command[index - 1] === "--network" ? "host" : word));

/** `docker run` and an ACP client's requests. */
class AgentByHand implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #ended: Promise<unknown>;
  readonly #lines: AsyncIterator<string>;
  readonly #directory: string;
  readonly #startedAt = performance.now();
  #requests = 0;
  #sessionId: unknown;
  #textAt: number | undefined;

  private constructor(directory: string, command: readonly string[], engine: string) {
    this.#directory = directory;
    const [program = "", ...args] = command;
    this.#child = spawn(program, args, {
      env: { ...process.env, DOCKER_HOST: engine },
      stdio: ["pipe", "pipe", "ignore"],
    });
    this.#ended = once(this.#child, "close");
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  /** `initialize` and `session/new` are done, and the time for them counts for the first prompt. */
  static async start({ image, engine, directory, provider }: ByHand): Promise<AgentByHand> {
    const session = await mkdtemp(join(directory, "by-hand-"));
    for (const name of ["", "workspace", "home"]) {
      await mkdir(join(session, name), { recursive: true });
      await chown(join(session, name), USER, USER);
    }
    const environment = [`ANTHROPIC_BASE_URL=${provider.plainUrl}`, `ANTHROPIC_API_KEY=${provider.key}`];
    const options = environment.flatMap((variable) => ["--env", variable]);
    const command = withNetwork(dockerRunCommand(image, session)).toSpliced(2, 0, ...options);
    const agent = new AgentByHand(session, command, engine);
    try {
      await agent.#request("initialize", { protocolVersion: 1, clientCapabilities: {} });
      const opened = await agent.#request("session/new", { cwd: "/session/workspace", mcpServers: [] });
      agent.#sessionId = opened?.sessionId;
      return agent;
    } catch (error) {
      await agent[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Ms from a prompt to the first text; for the first prompt, from the start of `docker run`. */
  async timeToText(): Promise<number> {
    const start = this.#requests === 2 ? this.#startedAt : performance.now();
    this.#textAt = undefined;
    const prompt = [{ type: "text", text: GREETING }];
    await this.#request("session/prompt", { sessionId: this.#sessionId, prompt });
    if (this.#textAt === undefined) throw new Error("the agent said nothing");
    return this.#textAt - start;
  }

  async #request(method: string, params: object): Promise<Record<string, unknown> | undefined> {
    const id = ++this.#requests;
    this.#child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`the agent ended in ${method}`);
      if (value.includes('"agent_message_chunk"')) this.#textAt ??= performance.now();
      const answer = JSON.parse(value) as { id?: number; result?: Record<string, unknown>; error?: unknown };
      if (answer.id !== id) continue;
      if (answer.error !== undefined) throw new Error(`${method} failed: ${value}`);
      return answer.result;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    this.#child.kill("SIGTERM");
    await this.#ended;
    await rm(this.#directory, { recursive: true, force: true });
  }
}
