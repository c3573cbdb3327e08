import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  DockerRuntime,
  EngineTimeoutError,
  EngineUnreachableError,
  ImageMissingError,
  RuntimeUnavailableError,
} from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { alterEngine } from "../../attack/altering-engine.ts";
import { leftovers } from "./leftovers.ts";
import { engineAddress, HOST, type Platform, platforms } from "./platforms.ts";
import { readUntil, World } from "./world.ts";

const docker = platforms.find(({ name }) => name.startsWith("docker")) as Platform;

/** A socket in front of the engine that can be cut. */
class CuttableEngine {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(directory: string) {
    this.path = join(directory, "engine.sock");
    this.#server = createServer((near) => {
      const url = new URL(engineAddress);
      const far = url.protocol === "unix:" ? connect(url.pathname) : connect(Number(url.port), url.hostname);
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => {
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far).pipe(near);
    });
  }

  readonly path: string;

  async listen(): Promise<void> {
    await once(this.#server.listen(this.path), "listening");
  }

  /** Ends every connection and takes no new ones. */
  async cut(): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

describe("docker", () => {
  let world: World;
  let directory: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "longshore-engine-"));
    await chmod(directory, 0o711);
    world = await World.open(docker);
  });
  afterAll(async () => {
    await world.close();
    await rm(directory, { recursive: true });
  });

  function runtimeAt(address: string, callTimeoutMs?: number): DockerRuntime {
    const options = { address, host: HOST, runDirectory: world.runDirectory };
    return new DockerRuntime(callTimeoutMs === undefined ? options : { ...options, callTimeoutMs });
  }

  test.each(["unix:///nonexistent/docker.sock", "tcp://127.0.0.1:1"])(
    "%s can't be reached",
    async (address) => {
      const runtime = runtimeAt(address);
      const spec = await world.spec(["true"]);
      await Promise.all(
        [runtime.check(), runtime.start(spec), runtime.reap(async () => false)].map((call) =>
          expect(call).rejects.toThrow(EngineUnreachableError),
        ),
      );
      await expect(runtime.check()).rejects.toMatchObject({
        code: "ENGINE_UNREACHABLE",
        retryable: true,
        address,
      });
    },
  );

  test("an engine that accepts and says nothing meets the deadline", async () => {
    const silent = createServer(() => undefined);
    const path = join(directory, "silent.sock");
    await once(silent.listen(path), "listening");
    const runtime = runtimeAt(`unix://${path}`, 200);
    await expect(runtime.check()).rejects.toThrow(EngineTimeoutError);
    await expect(runtime.reap(async () => false)).rejects.toMatchObject({
      code: "ENGINE_TIMEOUT",
      timeoutMs: 200,
    });
    silent.close();
  });

  test("an image that is not there is told as such, and nothing is pulled", async () => {
    const spec = { ...(await world.spec(["true"])), image: "longshore/no-such-image:dev" };
    const starting = world.runtime.start(spec);
    await expect(starting).rejects.toThrow(ImageMissingError);
    await expect(starting).rejects.toMatchObject({ retryable: false, image: spec.image });
    expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
  });

  test("an OCI runtime that the engine does not know", async () => {
    const options = { address: engineAddress, host: HOST, runDirectory: world.runDirectory };
    const runtime = new DockerRuntime({ ...options, requiredRuntimes: ["kata-none"] });
    await expect(runtime.check()).rejects.toThrow(RuntimeUnavailableError);
    const spec = { ...(await world.spec(["true"])), ociRuntime: "kata-none" };
    await expect(runtime.start(spec)).rejects.toMatchObject({
      // Podman would not even look for it.
      code: docker.name === "docker podman" ? "SANDBOX_SPEC_INVALID" : "SANDBOX_START_FAILED",
    });
    expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
  });

  test("an engine that would take another OCI runtime than was asked for starts nothing", async () => {
    const path = join(directory, "heedless.sock");
    const engine = await alterEngine(engineAddress, path, (request) => {
      delete request.HostConfig.Runtime;
    });
    const spec = { ...(await world.spec(["true"])), ociRuntime: "runsc" };
    await expect(runtimeAt(`unix://${path}`).start(spec)).rejects.toMatchObject({
      code: "SANDBOX_SPEC_INVALID",
      message: expect.stringContaining("ociRuntime"),
    });
    expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
    engine.close();
  });

  test("when the engine goes away, the exit is settled with the reason; the sandbox is reaped when it is back", async () => {
    const engine = new CuttableEngine(directory);
    await engine.listen();
    const spec = await world.spec(["sh", "-c", "echo up; trap '' TERM; while :; do sleep 0.05; done"]);
    const sandbox = await runtimeAt(`unix://${engine.path}`).start(spec);
    await readUntil(sandbox, "up\n");
    await engine.cut();
    await expect(sandbox.exited).rejects.toThrow(EngineUnreachableError);
    await expect(sandbox.destroy()).rejects.toThrow(EngineUnreachableError);
    expect(await leftovers(world, spec.labels.nonce)).toHaveLength(1);
    const { removed } = await world.runtime.reap(async ({ nonce }) => nonce !== spec.labels.nonce);
    expect(removed).toEqual([spec.labels]);
    expect(await leftovers(world, spec.labels.nonce)).toEqual([]);
  });

  test("another fleet's sandboxes on the same engine are never touched", async () => {
    const other = await World.open(docker);
    const sandbox = await other.start(["cat"]);
    expect((await world.runtime.reap(async () => false)).removed).toEqual([]);
    sandbox.stdin.write("alive\n");
    await readUntil(sandbox, "alive\n");
    await other.close();
  });
});
