import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

const BUILD = new URL("../../../packages/sandbox/init/build.sh", import.meta.url).pathname;
const SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
const PORT = 20_000 + (process.pid % 10_000);

/** The helper as a program of the host, built with sanitizers: what it does wrong ends it with their report. */
let directory: string;
let program: string;
let lifeline: Server;
const servers: Server[] = [];

async function listen(name: string, take: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    take(socket);
  });
  servers.push(server);
  await once(server.listen(join(directory, name)), "listening");
  return server;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "longshore-helper-"));
  program = join(directory, "longshore-init");
  const places = [`-DSOCKETS="${directory}"`, `-DEGRESS_PORT=${PORT}`];
  await promisify(execFile)("sh", [BUILD, "gcc", ...SANITIZERS, ...places, "-o", program]);
  lifeline = await listen("lifeline", (socket) => {
    let news = "";
    socket.setEncoding("utf8").on("data", (part: string) => {
      news += part;
    });
    socket.once("end", () => lifeline.emit("news", news));
  });
});
afterAll(async () => {
  for (const server of servers) server.close();
  await rm(directory, { recursive: true, force: true });
});

function start(...command: string[]): ChildProcess {
  return spawn(program, command, {
    stdio: ["pipe", "pipe", "pipe"],
    // Nobody may trace it, so it can't look for leaks in itself.
    env: { PATH: process.env.PATH, ASAN_OPTIONS: "detect_leaks=0" },
  });
}

async function outcome(child: ChildProcess): Promise<{ status: unknown; stderr: string }> {
  const [stderr, [status]] = await Promise.all([
    text(child.stderr as NonNullable<typeof child.stderr>),
    once(child, "exit"),
  ]);
  return { status, stderr };
}

test.each([
  [["run", "sh", "-c", "exit 3"], 3, "started\n"],
  [["run", "sh", "-c", "kill -KILL $$"], 137, "started\n"],
  [["run", "/no/such/program"], 127, "failed 2\n"],
  [["run", "/etc/os-release"], 126, "failed 13\n"],
])("%j ends with %i, and the worker is told", async (command, status, news) => {
  const told = once(lifeline, "news");
  expect((await outcome(start(...command))).status).toBe(status);
  expect(await told).toEqual([news]);
});

test.each([[[]], [["run"]], [["mcp", "more"]], [["other"]]])("%j is no way to call it", async (command) => {
  expect(await outcome(start(...command))).toEqual({
    status: 125,
    stderr: expect.stringMatching(/^longshore-init: usage/),
  });
});

test("a signal is the program's", async () => {
  const child = start("run", "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done");
  await once(child.stdout as NonNullable<typeof child.stdout>, "data");
  const ended = outcome(child);
  child.kill("SIGTERM");
  expect(await ended).toEqual({ status: 9, stderr: "" });
});

test("when the lifeline breaks it ends", async () => {
  const taken = once(lifeline, "connection");
  const child = start("run", "sh", "-c", "echo $$; exec sleep 1000");
  const ended = outcome(child);
  const [socket] = (await taken) as [Socket];
  const [pid] = (await once(child.stdout as NonNullable<typeof child.stdout>, "data")) as [Buffer];
  socket.destroy();
  // Outside of a sandbox nothing ends its program with it; it has standard error open.
  await once(child, "exit");
  process.kill(Number(pid.toString()), "SIGKILL");
  expect((await ended).status).toBe(124);
});

test("many connections of all manners at once, more than it carries", async () => {
  const egress = await listen("egress", (socket) => {
    // Some are cut at once, some after a part, the others get all back, in pieces and after the other's end.
    let kind: number | undefined;
    const kept: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => {
      kind ??= (chunk[0] as number) % 4;
      if (kind === 0) socket.destroy();
      else if (kind === 1) socket.end(chunk.subarray(0, 1));
      else if (kind === 2) socket.write(chunk);
      else kept.push(chunk);
    });
    socket.on("end", () => {
      for (const chunk of kept) socket.write(chunk);
      socket.end();
    });
  });
  const child = start("run", "sh", "-c", "echo up; read -r _; exit 0");
  const ended = outcome(child);
  await once(child.stdout as NonNullable<typeof child.stdout>, "data");
  const answers = await Promise.all(
    Array.from({ length: 400 }, async (_, index) => {
      const bytes = Buffer.alloc(1 + ((index * 7919) % 200_000), index % 4);
      const socket = connect({ port: PORT, host: "127.0.0.1", allowHalfOpen: true });
      socket.on("error", () => undefined);
      socket.end(bytes);
      return { index, bytes, answer: await buffer(socket).catch(() => undefined) };
    }),
  );
  for (const { index, bytes, answer } of answers) {
    if (index % 4 >= 2) expect(answer?.equals(bytes), `connection ${index}`).toBe(true);
  }
  child.stdin?.end("\n");
  expect(await ended).toEqual({ status: 0, stderr: "" });
  egress.close();
});

test("bytes are carried whole and in order, and no connection stays, whatever both ends do", async () => {
  const program = join(directory, "carry");
  const harness = new URL("../../fuzz/carry.c", import.meta.url).pathname;
  const run = promisify(execFile);
  await run("gcc", ["-std=gnu11", ...SANITIZERS, "-DRANDOM_INPUTS", harness, "-o", program]);
  const seed = String(Date.now());
  await expect(run(program, [seed, "20000"]), `seed ${seed}`).resolves.toEqual({ stdout: "", stderr: "" });
});

test("tools: standard input and output are carried, and its reader's end ends it", async () => {
  await listen("tools", (socket) => socket.pipe(socket));
  const child = start("mcp");
  const ended = outcome(child);
  const sent = Buffer.alloc(1_000_000, "tools");
  child.stdin?.end(sent);
  expect((await buffer(child.stdout as NonNullable<typeof child.stdout>)).equals(sent)).toBe(true);
  expect(await ended).toEqual({ status: 0, stderr: "" });
});
