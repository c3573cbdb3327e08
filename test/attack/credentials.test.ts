import { chmod, mkdtemp, readdir } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Dialer, EgressProxy } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readAll, World } from "../conformance/sandbox/world.ts";
import { searchScript, socketScript, TAKEN } from "./scripts.ts";
import { attacked, weaken } from "./weakened.ts";

const SECRET = "sk-0123456789-the-real-one";
const limits = { memoryBytes: 1024 ** 3, cpus: 2, pids: 64 };

/** The worker has it too, as the operator gave it. */
beforeAll(() => {
  process.env.LONGSHORE_ATTACKED_KEY = SECRET;
});
afterAll(() => {
  delete process.env.LONGSHORE_ATTACKED_KEY;
});

function proxyWithSecret(): EgressProxy {
  return new EgressProxy({
    definition: {
      allow: [],
      credentials: [
        {
          upstream: "https://api.example.com",
          as: "/api",
          header: "x-api-key",
          secret: SECRET,
          variable: "API_URL",
          private: false,
        },
      ],
      limits: { requests: 100, connections: 8, bytes: 1024 ** 2 },
      idle: 60_000,
    },
    dialer: new Dialer({ resolve: async () => [] }),
    onDecision: () => undefined,
  });
}

describe.each(attacked)("$name", (platform) => {
  async function search(world: World): Promise<string> {
    const proxy = proxyWithSecret();
    const { stdout } = await world.run(searchScript(SECRET), {
      limits,
      env: { ...proxy.environment(), API_KEY: "placeholder" },
      egress: proxy.serve,
    });
    proxy.close();
    expect(stdout).toContain("searched");
    return stdout;
  }

  test("a credential is found nowhere in the sandbox", async () => {
    const world = await World.open(platform);
    expect(await search(world)).not.toContain(TAKEN);
    await world.close();
  });

  test("the attack bites where the sandbox was given it by mistake", async () => {
    await using weakened = await weaken(platform, { env: { LEAKED: SECRET } });
    const world = await World.open(weakened.platform);
    expect(await search(world)).toContain(`${TAKEN} the environment`);
    await world.close();
  });

  /** Lets one activation look for the egress of another, which answers whoever reaches it. */
  async function stealEgress(world: World, isOpen: boolean): Promise<string> {
    const answer = (socket: Socket) => {
      socket.on("error", () => undefined);
      socket.end("HTTP/1.1 200 OK\r\n\r\n the victim's credentials at work");
    };
    const victim = await world.spec(["cat"], { egress: answer });
    const sandbox = await world.runtime.start(victim);
    const sockets = join(world.runDirectory, "workers", world.workerId, "sockets", victim.labels.nonce);
    expect(await readdir(sockets)).toContain("egress");
    if (isOpen) await chmod(sockets, 0o755);
    const script = socketScript(
      ["/.longshore", "/tmp", "/run", "/session", "/proc/1/root"],
      [join(sockets, "egress")],
    );
    const thief = await world.start(["node", "-e", script], { limits });
    const stdout = await readAll(thief);
    expect((await thief.exited).exitCode).toBe(0);
    await sandbox.destroy();
    return stdout;
  }

  test("another activation's egress is not reached", async () => {
    const world = await World.open(platform);
    // Not even where the directory's own modes would let it through.
    expect(await stealEgress(world, true)).not.toContain(TAKEN);
    await world.close();
  });

  test.each([
    ["is still not reached where its directory is in sight", false],
    ["is reached where its modes are open, too: the attack bites", true],
  ])("it %s", async (_, isOpen) => {
    const runDirectory = await mkdtemp(join(tmpdir(), "longshore-attack-"));
    await using weakened = await weaken(platform, { directory: runDirectory });
    const world = await World.open(weakened.platform, runDirectory);
    expect((await stealEgress(world, isOpen)).includes(TAKEN)).toBe(isOpen);
    await world.close();
  });
});
