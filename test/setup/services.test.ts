import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { HeadObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { buildAgentImage } from "../../infra/setup/agent-image.ts";
import { debianBase } from "../../infra/setup/debian-base.ts";
import { startDocker } from "../../infra/setup/docker-engine.ts";
import { mountPointsBelow } from "../../infra/setup/mounts.ts";
import { startObjectStore } from "../../infra/setup/object-store.ts";
import { processesMentioning } from "../../infra/setup/process-table.ts";
import { createBucket, engineAt } from "../../infra/setup/provided-services.ts";
import { startRedis } from "../../infra/setup/redis.ts";
import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";
import { waitUntil } from "../../infra/setup/wait-until.ts";

/** What is still there of services whose data are below a directory. */
async function tracesOf(directory: string): Promise<object> {
  const groups: string[] = [];
  for (const hierarchy of await readdir("/sys/fs/cgroup")) {
    const names = await readdir(join("/sys/fs/cgroup", hierarchy)).catch(() => []);
    groups.push(...names.filter((name) => name.startsWith(basename(directory))));
  }
  return {
    processes: await processesMentioning(directory),
    mounts: mountPointsBelow(directory, await readFile("/proc/self/mountinfo", "utf8")),
    controlGroups: groups,
    directories: (await readdir(tmpdir())).filter((name) => name === basename(directory)),
  };
}

const noTraces = { processes: [], mounts: [], controlGroups: [], directories: [] };

async function refusesConnections(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  try {
    await once(socket, "connect");
    return false;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
}

/** Runs containers that don't end by themselves: one runs, one is paused. */
async function occupy(engineUrl: string): Promise<void> {
  const engine = engineAt(engineUrl);
  const image = await buildAgentImage(engine, await debianBase({ report: () => undefined }));
  for (const paused of [false, true]) {
    const container = await engine.createContainer({
      Image: image,
      Cmd: ["sleep", "1000"],
      StopTimeout: 1,
      HostConfig: { NetworkMode: "none" },
    });
    await container.start();
    if (paused) {
      await container.pause();
    }
  }
}

describe("a private service", () => {
  let scratch: ScratchDirectory;

  beforeEach(async () => {
    scratch = await ScratchDirectory.create();
  });

  afterEach(async () => {
    await scratch.remove();
  });

  it("Redis keeps address and data when it is killed and started again", async () => {
    await using redis = await startRedis({ directory: join(scratch.path, "redis") });
    const client = new Redis(redis.url);
    try {
      await client.set("key", "value");
      await redis.kill();
      await redis.restart();
      expect(await client.get("key")).toBe("value");
      expect(await client.config("GET", "maxmemory-policy")).toEqual(["maxmemory-policy", "noeviction"]);
    } finally {
      client.disconnect();
    }
  });

  it("the S3 server keeps address and objects when its gateway is killed and started again", async () => {
    await using store = await startObjectStore({ directory: join(scratch.path, "s3") });
    await createBucket(store, "bucket");
    const client = new S3Client({ ...store, credentials: store, forcePathStyle: true });
    try {
      const object = { Bucket: "bucket", Key: "key" };
      await client.send(new PutObjectCommand({ ...object, Body: "value" }));
      await store.kill();
      await store.restart();
      expect(await client.send(new HeadObjectCommand(object))).toMatchObject({ ContentLength: 5 });
    } finally {
      client.destroy();
    }
  });

  it("the engine keeps address and images when it is killed and started again", async () => {
    await using engine = await startDocker({ directory: join(scratch.path, "docker") });
    await occupy(engine.url);
    const images = async () => (await engineAt(engine.url).listImages()).map(({ Id }) => Id).toSorted();
    const before = await images();
    await engine.kill();
    await engine.restart();
    expect(await images()).toEqual(before);
  });

  it.each([
    ["running", []],
    ["suspended", ["SIGSTOP"]],
    ["killed", ["SIGKILL"]],
  ] as const)("leaves nothing behind when it is stopped while %s", async (_state, signals) => {
    const services = [
      await startRedis({ directory: join(scratch.path, "redis") }),
      await startObjectStore({ directory: join(scratch.path, "s3") }),
      await startDocker({ directory: join(scratch.path, "docker") }),
    ];
    for (const signal of signals) {
      await Promise.all(services.map((service) => service.signal(signal)));
    }
    await Promise.all(services.map((service) => service.stop()));
    expect(await tracesOf(scratch.path)).toEqual({ ...noTraces, directories: [basename(scratch.path)] });
    await scratch.remove();
    expect(await tracesOf(scratch.path)).toEqual(noTraces);
  });

  it("the engine takes its containers with it, also paused ones", async () => {
    await using engine = await startDocker({ directory: join(scratch.path, "docker") });
    await occupy(engine.url);
    await engine.stop();
    expect(await tracesOf(scratch.path)).toEqual({ ...noTraces, directories: [basename(scratch.path)] });
  });
});

describe("services whose owner is", () => {
  interface Held {
    readonly owner: ChildProcess;
    readonly directory: string;
    readonly redisUrl: string;
    readonly storeUrl: string;
    readonly engineUrl: string;
    readonly enginePid: number;
  }

  async function hold(): Promise<Held> {
    const owner = fork(join(import.meta.dirname, "hold-services.ts"), { execArgv: [] });
    const [held] = (await once(owner, "message")) as [Omit<Held, "owner">];
    return { owner, ...held };
  }

  it.each([
    ["interrupted", "SIGINT", 130],
    ["told to end", "SIGTERM", 143],
  ] as const)("%s leave nothing behind", async (_state, signal, status) => {
    const { owner, directory } = await hold();
    owner.kill(signal);
    expect(await once(owner, "exit")).toEqual([status, null]);
    expect(await tracesOf(directory)).toEqual(noTraces);
  });

  it("deserted by its parent leave nothing behind", async () => {
    const { owner, directory } = await hold();
    owner.disconnect();
    await once(owner, "exit");
    expect(await tracesOf(directory)).toEqual(noTraces);
  });

  it("killed end with it, and the next one's set-up removes the rest", async () => {
    const { owner, directory, engineUrl, redisUrl, storeUrl } = await hold();
    await occupy(engineUrl);
    owner.kill("SIGKILL");
    await once(owner, "exit");
    for (const url of [redisUrl, storeUrl]) {
      await waitUntil(() => refusesConnections(url), { what: `${url} to end`, timeoutMs: 60_000 });
    }
    await using _next = await ScratchDirectory.create();
    expect(await tracesOf(directory)).toEqual(noTraces);
  });

  it("killed while its engine can't end leave nothing after the next one's set-up", async () => {
    const { owner, directory, engineUrl, enginePid } = await hold();
    await occupy(engineUrl);
    process.kill(enginePid, "SIGKILL");
    owner.kill("SIGKILL");
    await once(owner, "exit");
    await using _next = await ScratchDirectory.create();
    expect(await tracesOf(directory)).toEqual(noTraces);
  });
});
