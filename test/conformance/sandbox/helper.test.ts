import { once } from "node:events";
import type { Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { CommandFailedError, EGRESS_PORT, TOOLS_COMMAND } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { platforms } from "./platforms.ts";
import { LIMITS, processesOf, readAll, readUntil, World } from "./world.ts";

/** Without cgroups the limit counts what Node.js reserves, too. */
const NODE_LIMITS = { ...LIMITS, memoryBytes: 2 * 1024 ** 3 };

/** In the sandbox: sends its standard input to the egress port and prints what comes back. */
const CARRY = `
  const socket = require("node:net").connect({ port: ${EGRESS_PORT}, host: "127.0.0.1", allowHalfOpen: true });
  process.stdin.pipe(socket);
  socket.pipe(process.stdout);
  socket.on("error", (error) => console.log(error.code));`;

describe.each(platforms)("$name", (platform) => {
  let world: World;
  const isGvisor = platform.name === "docker runsc";
  beforeAll(async () => {
    world = await World.open(platform);
  });
  afterAll(() => world.close());

  test.each([
    ["/no/such/program", "ENOENT"],
    ["/etc/os-release", "EACCES"],
  ])("a start whose program %s can't be run says so (%s), and leaves nothing", async (program, errno) => {
    const spec = await world.spec([program]);
    const start = world.runtime.start(spec);
    await expect(start).rejects.toThrow(CommandFailedError);
    await expect(start).rejects.toMatchObject({ code: "COMMAND_FAILED", errno, command: [program] });
    expect(await processesOf(spec.user.uid)).toEqual([]);
  });

  test("bytes go to the worker's egress and back through loopback, each side's end in its own time", async () => {
    const received = Promise.withResolvers<Buffer>();
    const sandbox = await world.start(["node", "-e", CARRY], {
      limits: NODE_LIMITS,
      egress: (socket) => {
        void buffer(socket).then((bytes) => {
          received.resolve(bytes);
          // After the other side has ended.
          socket.end(bytes);
        });
      },
    });
    const sent = Buffer.from(Array.from({ length: 2_000_000 }, (_, index) => (index * 7) % 251));
    sandbox.stdin.end(sent);
    const [back] = await Promise.all([buffer(sandbox.stdout), received.promise]);
    expect((await received.promise).equals(sent)).toBe(true);
    expect(back.equals(sent)).toBe(true);
    expect((await sandbox.exited).exitCode).toBe(0);
  });

  test("without egress nothing listens there", async () => {
    const sandbox = await world.start(["node", "-e", CARRY], { limits: NODE_LIMITS });
    sandbox.stdin.end();
    expect(await readAll(sandbox)).toBe("ECONNREFUSED\n");
  });

  test("a helper of its own carries tools between an agent's process and the worker", async () => {
    const sandbox = await world.start([...TOOLS_COMMAND], { tools: (socket) => socket.pipe(socket) });
    const sent = Buffer.from(Array.from({ length: 1_000_000 }, (_, index) => (index * 5) % 251));
    sandbox.stdin.end(sent);
    expect((await buffer(sandbox.stdout)).equals(sent)).toBe(true);
    expect((await sandbox.exited).exitCode).toBe(0);
  });

  test("what the worker gives to its handlers ends with the sandbox", async () => {
    const taken = Promise.withResolvers<Socket>();
    const sandbox = await world.start([...TOOLS_COMMAND], { tools: taken.resolve });
    const socket = await taken.promise;
    const closed = once(socket, "close");
    await sandbox.destroy();
    await closed;
  });

  test("it can be neither looked into, stopped nor killed by what it runs, and reaps what that leaves", async () => {
    const tools = (socket: Socket) => void socket.destroy();
    const script = `
      for file in mem environ maps; do head -c 1 /proc/1/$file > /dev/null 2>&1 && echo "read $file"; done
      (echo x > /.longshore/init) 2>/dev/null && echo "wrote the program"
      rm -f /.longshore/run/tools 2>/dev/null; [ -e /.longshore/run/tools ] || echo "removed a socket"
      ${isGvisor ? "" : "kill -KILL 1; kill -STOP 1"}
      (sh -c '(sleep 0.05; echo > /tmp/ended) &' &)
      while [ ! -e /tmp/ended ]; do sleep 0.02; done
      round=0
      while [ $round -lt 100 ] && grep -qs '^State:.Z' /proc/[0-9]*/status; do round=$((round + 1)); sleep 0.05; done
      [ $round -lt 100 ] || echo "zombies stay"
      echo alive`;
    const { stdout } = await world.run(script, { tools });
    // gVisor protects the first process from nobody of its user: its environment is the agent's own, and what
    // kills or stops it has its own sandbox killed, at the latest by the reaper.
    expect(stdout.split("\n").filter((line) => !(isGvisor && /^read/.test(line)))).toEqual(["alive", ""]);
  });

  test("what connects to the lifeline beside the helper is dropped and changes nothing", async () => {
    const script = `
      const socket = require("node:net").connect("/.longshore/run/lifeline");
      socket.on("error", (error) => console.log("dropped"));
      socket.on("connect", () => socket.write("failed 2\\n"));
      socket.on("close", () => console.log("closed"));`;
    const sandbox = await world.start(["node", "-e", script], { limits: NODE_LIMITS });
    sandbox.stdin.end();
    expect(await readAll(sandbox)).toMatch(/closed/);
    expect((await sandbox.exited).exitCode).toBe(0);
  });

  test("signals are passed on", async () => {
    const sandbox = await world.start([
      "sh",
      "-c",
      "trap 'echo got TERM; exit 7' TERM; echo up; while :; do sleep 0.02; done",
    ]);
    await readUntil(sandbox, "up");
    await Promise.all([readUntil(sandbox, "got TERM"), sandbox.stop(10_000)]);
    expect((await sandbox.exited).exitCode).toBe(7);
  });

  test("its sockets are gone with it", async () => {
    const spec = await world.spec(["cat"], { egress: (socket) => socket.destroy() });
    const sandbox = await world.runtime.start(spec);
    expect(await world.socketDirectories()).toContain(spec.labels.nonce);
    await sandbox.destroy();
    expect(await world.socketDirectories()).not.toContain(spec.labels.nonce);
  });
});
