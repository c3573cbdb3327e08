import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PassThrough } from "node:stream";
import type Dockerode from "dockerode";
import { expect, it } from "vitest";
import { debianBase } from "../../../infra/setup/debian-base.ts";
import { buildFleetImages } from "../../../infra/setup/fleet-images.ts";
import { engineAt } from "../../../infra/setup/provided-services.ts";
import { Api } from "../../support/api.ts";
import { Fleet, required } from "../../support/fleet.ts";

/** What infra/kubernetes and infra/compose.yaml leave the worker of root's powers. */
const WORKER_CAPABILITIES = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];

/** One of the fleet's images, running. */
class ImageProcess implements AsyncDisposable {
  readonly #container: Dockerode.Container;

  private constructor(container: Dockerode.Container) {
    this.#container = container;
  }

  /** Starts it on the host's network and waits for the log line with that message; gives its fields. */
  static async start(
    engine: Dockerode,
    options: {
      readonly image: string;
      readonly environment: NodeJS.ProcessEnv;
      readonly binds: readonly string[];
      readonly capabilities: readonly string[];
      readonly ready: string;
    },
  ): Promise<{ readonly process: ImageProcess; readonly line: Readonly<Record<string, unknown>> }> {
    const container = await engine.createContainer({
      Image: options.image,
      Env: Object.entries(options.environment).map(([name, value]) => `${name}=${value}`),
      HostConfig: {
        NetworkMode: "host",
        Binds: [...options.binds],
        CapDrop: ["ALL"],
        CapAdd: [...options.capabilities],
        ReadonlyRootfs: true,
        Tmpfs: { "/tmp": "size=64m" },
        SecurityOpt: ["no-new-privileges"],
        Init: true,
      },
    });
    const process = new ImageProcess(container);
    await container.start();
    const output = new PassThrough();
    const logs = await container.logs({ follow: true, stdout: true, stderr: true });
    container.modem.demuxStream(logs, output, output);
    logs.once("end", () => output.end());
    const seen: string[] = [];
    for await (const text of createInterface({ input: output })) {
      seen.push(text);
      if (!text.startsWith("{")) continue;
      const line = JSON.parse(text) as Record<string, unknown>;
      if (line.msg === options.ready) return { process, line };
    }
    await process[Symbol.asyncDispose]();
    throw new Error(`${options.image} ended before it was ready:\n${seen.join("\n")}`);
  }

  /** Ends it as an orchestrator does; gives its exit code. */
  async stop(): Promise<number> {
    await this.#container.stop({ t: 30 });
    const { State } = await this.#container.inspect();
    return State.ExitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#container.remove({ force: true, v: true });
  }
}

it("the fleet does its job in the images that infra builds", { timeout: 300_000 }, async () => {
  const engine = engineAt(required("DOCKER_HOST"));
  const images = await buildFleetImages(engine, await debianBase({ report: () => undefined }), {
    report: () => undefined,
  });
  await using fleet = await Fleet.start({ runtime: "docker", store: "s3", agent: { linger: "2s" } });
  const runDirectory = join(fleet.directory, "run");
  await mkdir(runDirectory, { mode: 0o711 });
  const socket = new URL(required("DOCKER_HOST")).pathname;
  const configuration = `${join(fleet.directory, "longshore.yaml")}:${fleet.environment.LONGSHORE_CONFIG}:ro`;

  const { process: dispatcher, line } = await ImageProcess.start(engine, {
    image: images.dispatcher,
    environment: fleet.environment,
    binds: [configuration],
    capabilities: [],
    ready: "dispatcher ready",
  });
  await using _dispatcher = dispatcher;
  const { process: worker } = await ImageProcess.start(engine, {
    image: images.worker,
    environment: fleet.environment,
    // The run directory has the same path inside: the engine mounts slots by it.
    binds: [configuration, `${runDirectory}:${runDirectory}`, `${socket}:${socket}`],
    capabilities: WORKER_CAPABILITIES,
    ready: "worker ready",
  });
  await using _worker = worker;

  const api = new Api(line.url as string, fleet.key);
  const attachment = { name: "numbers.txt", data: Buffer.from("1\n2\n3\n").toString("base64") };
  const first = await api.ask("c", "1", "$ cat ../inbox/*/numbers.txt | wc -l | tee count", {
    attachments: [attachment],
  });
  expect(first).toMatchObject({ state: "answered" });
  expect(first.replies?.[0]?.text.trim()).toBe("3");
  // Longer than it lingers: the follow-up is hydrated from the store.
  const second = await api.ask("c", "2", "$ sleep 3; cp count ../outbox/result.txt; cat count");
  expect(second.replies?.[0]).toMatchObject({
    text: "3\n",
    artifacts: [{ name: "result.txt", sizeBytes: 2 }],
  });
  expect(await api.file(first.sessionId, "workspace/count")).toBe("3\n");

  expect(await worker.stop()).toBe(0);
  expect(await dispatcher.stop()).toBe(0);
  const left = await engine.listContainers({
    all: true,
    filters: { label: [`longshore.run-directory=${runDirectory}`] },
  });
  expect(left).toEqual([]);
});
