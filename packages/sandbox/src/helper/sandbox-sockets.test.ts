import { mkdir, mkdtemp, open, readdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SandboxSpec } from "../sandbox.ts";
import { EGRESS_SOCKET, LIFELINE_SOCKET, TOOLS_SOCKET } from "./helper-paths.ts";
import { SandboxSockets } from "./sandbox-sockets.ts";

const NAMES = [EGRESS_SOCKET, LIFELINE_SOCKET, TOOLS_SOCKET];

describe("the sockets of a sandbox", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "sockets-"));
  });
  afterEach(() => rm(directory, { recursive: true }));

  const openSockets = (nonce: string) =>
    SandboxSockets.open(directory, {
      labels: { host: "h", worker: "w", tenant: "t", sessionId: "s", epoch: 1, nonce },
      user: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
      slotDirectory: directory,
      workingDirectory: "/session",
      env: {},
      limits: { memoryBytes: 2 ** 24, cpus: 1, pids: 8 },
      egress: (socket) => socket.destroy(),
      tools: (socket) => socket.destroy(),
    } satisfies SandboxSpec);

  /** Opened next, so with the descriptor's number that is free first. */
  async function openUsersDirectory() {
    const users = join(directory, "users");
    await mkdir(users);
    for (const name of NAMES) await writeFile(join(users, name), "a user's");
    return { path: users, handle: await open(users) };
  }

  it("are removed without touching files of their names elsewhere", async () => {
    const sockets = await openSockets("a");
    expect((await readdir(sockets.directory)).sort()).toEqual(NAMES);
    const users = await openUsersDirectory();
    try {
      const helper = connect(join(sockets.directory, LIFELINE_SOCKET));
      await new Promise((resolve) => helper.once("connect", resolve));
      await sockets.close();
      expect((await readdir(users.path)).sort()).toEqual(NAMES);
      expect(await readdir(join(directory, "workers", "w", "sockets"))).toEqual([]);
    } finally {
      await users.handle.close();
    }
  });

  it("are closed once, however often that is asked for", async () => {
    const sockets = await openSockets("a");
    await Promise.all([sockets.close(), sockets.close()]);
    await sockets.close();
    expect(await readdir(join(directory, "workers", "w", "sockets"))).toEqual([]);
  });
});
