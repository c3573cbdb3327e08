import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalSandbox } from "../../infra/setup/fleet-configuration.ts";
import type { FleetProcess } from "../../infra/setup/fleet-process.ts";
import { LocalFleet } from "../../infra/setup/local-fleet.ts";
import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";
import { dockerRunCommand, timeDockerRun } from "./docker-run.ts";
import { required } from "./required.ts";
import type { Benchmark, Measurement } from "./row.ts";
import { measureTurnEnd } from "./turn-end.ts";
import { median } from "./turns.ts";

/** Runs that are not measured, so that both sides find their files in the page cache. */
const WARM_UP = 1;
const RUNS = 9;
/** So many stand ready before each warm turn. */
const WARM_SANDBOXES = 1;
const READY_POLL_MS = 50;

/** What a turn took until its prompt was sent, in ms: the whole since it was accepted, and its phases. */
interface TurnTimes {
  readonly total: number;
  readonly phases: ReadonlyMap<string, number>;
}

/**
 * A turn until its prompt is sent: cold (no directory, no sandbox), in a lingering activation, and cold in
 * bubblewrap, each next to `docker run` of the same image, one run of each by turns; and in a sandbox that was started
 * ahead, next to the cold ones.
 */
export const benchmark: Benchmark = async function* () {
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await ScratchDirectory.create());
  const engine = required("DOCKER_HOST", "turn");
  const image = required("LONGSHORE_TEST_IMAGE", "turn");
  const run = () => timeDockerRun({ image, engine, directory: scratch.path });
  const peerCommand = dockerRunCommand(image, "DIRECTORY").join(" ");

  const docker = stack.use(
    await BenchFleet.start(join(scratch.path, "docker"), { runtime: "docker", engine, image }),
  );
  const cold = await docker.coldTurns(run);
  const peer = median(cold.peer);
  yield {
    work: "cold turn, docker: accepted to prompt sent",
    unit: "ms",
    ours: median(cold.ours.map(({ total }) => total)),
    peer,
    peerCommand,
    target: { of: "ratio", atMost: 1.1 },
  };
  yield* phasesOf("cold, docker", cold.ours);

  const lingering = await docker.lingeringTurns();
  yield {
    work: "turn in a lingering activation",
    unit: "ms",
    ours: median(lingering.map(({ total }) => total)),
    peer,
    peerCommand,
  };
  yield* phasesOf("lingering", lingering);
  await docker[Symbol.asyncDispose]();

  const warmDocker = stack.use(
    await BenchFleet.start(join(scratch.path, "warm"), { runtime: "docker", engine, image }, WARM_SANDBOXES),
  );
  const warm = await warmDocker.warmTurns();
  yield {
    work: "warm turn, docker: accepted to prompt sent",
    unit: "ms",
    ours: median(warm.map(({ total }) => total)),
    peer: median(cold.ours.map(({ total }) => total)),
    peerCommand: "the cold turns above",
    target: { of: "ratio", atMost: 0.1 },
  };
  yield* phasesOf("warm, docker", warm);
  await warmDocker[Symbol.asyncDispose]();

  const rootfs = required("LONGSHORE_TEST_ROOTFS", "turn");
  const bwrap = stack.use(await BenchFleet.start(join(scratch.path, "bwrap"), { runtime: "bwrap", rootfs }));
  const confined = await bwrap.coldTurns(run);
  yield {
    work: "cold turn, bwrap: accepted to prompt sent",
    unit: "ms",
    ours: median(confined.ours.map(({ total }) => total)),
    peer: median(confined.peer),
    peerCommand,
  };
  yield* phasesOf("cold, bwrap", confined.ours);
  await bwrap[Symbol.asyncDispose]();
  yield* measureTurnEnd();
};

/** A fleet of one worker with a place for every session of the benchmark. */
class BenchFleet implements AsyncDisposable {
  readonly #fleet: LocalFleet;
  readonly #worker: FleetProcess;

  static async start(directory: string, sandbox: LocalSandbox, warm = 0): Promise<BenchFleet> {
    const places = WARM_UP + RUNS + 2;
    const fleet = await LocalFleet.start(
      { report: () => undefined },
      { directory, sandbox, port: 0, places, warm },
    );
    try {
      return new BenchFleet(fleet, await fleet.startWorker());
    } catch (error) {
      await fleet[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(fleet: LocalFleet, worker: FleetProcess) {
    this.#fleet = fleet;
    this.#worker = worker;
  }

  /** New sessions, and the peer's run after each. */
  async coldTurns(
    runPeer: () => Promise<number>,
  ): Promise<{ readonly ours: TurnTimes[]; readonly peer: number[] }> {
    const ours: TurnTimes[] = [];
    const peer: number[] = [];
    for (let run = 0; run < WARM_UP + RUNS; run++) {
      ours.push(await this.#turn(`c${run}`, "cold"));
      peer.push(await runPeer());
    }
    return { ours: ours.slice(WARM_UP), peer: peer.slice(WARM_UP) };
  }

  /** One more turn in each of the sessions that `coldTurns` left lingering. */
  async lingeringTurns(): Promise<TurnTimes[]> {
    const turns: TurnTimes[] = [];
    for (let run = 0; run < WARM_UP + RUNS; run++) turns.push(await this.#turn(`c${run}`, "lingering"));
    return turns.slice(WARM_UP);
  }

  /** New sessions, each once a sandbox stands ready and the machine is at rest. */
  async warmTurns(): Promise<TurnTimes[]> {
    const turns: TurnTimes[] = [];
    for (let run = 0; run < WARM_UP + RUNS; run++) {
      while ((await this.#warmSandboxes()) < WARM_SANDBOXES) await sleep(READY_POLL_MS);
      turns.push(await this.#turn(`w${run}`, "warm"));
    }
    return turns.slice(WARM_UP);
  }

  async #warmSandboxes(): Promise<number> {
    const response = await fetch(new URL("/metrics", String(this.#worker.ready.metricsUrl)));
    return Number(/^longshore_warm_sandboxes\{.*\} (\d+)$/m.exec(await response.text())?.[1] ?? 0);
  }

  async #turn(conversation: string, id: string): Promise<TurnTimes> {
    const response = await fetch(`${this.#fleet.url}/v1/messages?wait=60`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.#fleet.key}`, "content-type": "application/json" },
      body: JSON.stringify({
        ...{ id, conversation, agent: "helper", channel: "http" },
        ...{ sender: { id: "bench" }, text: "$ true" },
      }),
    });
    const message = (await response.json()) as { readonly messageId?: string; readonly state?: string };
    if (message.state !== "answered") throw new Error(`not answered: ${JSON.stringify(message)}`);
    return await this.#timesOf(message.messageId as string);
  }

  /** As the worker logged them when it sent the prompt. */
  async #timesOf(messageId: string): Promise<TurnTimes> {
    const response = await fetch(`${this.#fleet.url}/v1/messages/${messageId}`, {
      headers: { authorization: `Bearer ${this.#fleet.key}` },
    });
    const { acceptedAt } = (await response.json()) as { readonly acceptedAt: string };
    const line = (await this.#worker.log()).find(
      ({ msg, messageIds }) => msg === "prompt sent" && (messageIds as string[]).includes(messageId),
    );
    if (line === undefined) throw new Error(`the worker's log does not tell when ${messageId} was sent`);
    return {
      total: Date.parse(line.time) - Date.parse(acceptedAt),
      phases: new Map(Object.entries(line.phases as Record<string, number>)),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fleet[Symbol.asyncDispose]();
  }
}

/** A row for each phase: where the time goes. They overlap: the sandbox starts while files are restored. */
function* phasesOf(what: string, turns: readonly TurnTimes[]): Generator<Measurement> {
  for (const phase of new Set(turns.flatMap(({ phases }) => [...phases.keys()]))) {
    const times = turns.flatMap(({ phases }) => phases.get(phase) ?? []);
    yield { work: `  ${what}: ${phase}`, unit: "ms", ours: median(times), peer: null };
  }
}
