import { once } from "node:events";
import { type AddressInfo, createServer, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LIMITS, World } from "../conformance/sandbox/world.ts";
import { reachScript, TAKEN } from "./scripts.ts";
import { attacked, weaken } from "./weakened.ts";

/** Stands for what listens on a host: Redis, the object store, another sandbox's or the worker's own ports. */
let service: Server;
let targets: [string, number][];

beforeAll(async () => {
  service = createServer((socket) => socket.end("the host's own"));
  await once(service.listen(0, "::"), "listening");
  const { port } = service.address() as AddressInfo;
  const addresses = Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).map(({ address }) => address),
  );
  targets = [
    ...["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "0.0.0.0", ...addresses].map(
      (host): [string, number] => [host, port],
    ),
    ...([
      ["169.254.169.254", 80],
      ["example.com", 80],
      ["1.1.1.1", 53],
      ["8.8.8.8", 53],
    ] as [string, number][]),
  ];
});
afterAll(() => service.close());

const limits = { ...LIMITS, memoryBytes: 1024 ** 3 };

describe.each(attacked)("$name", (platform) => {
  test("no host, by address or by name, is reached without egress", async () => {
    const world = await World.open(platform);
    const sandbox = await world.start(["node", "-e", reachScript(targets)], { limits });
    let stdout = "";
    for await (const chunk of sandbox.stdout) stdout += chunk;
    expect([stdout, (await sandbox.exited).exitCode]).toEqual(["", 0]);
    await world.close();
  });

  test("the attack bites where the sandbox is on the host's network", async ({ skip }) => {
    skip(
      platform.name === "docker runsc",
      "gVisor's own network is turned off in the engine's configuration",
    );
    await using weakened = await weaken(platform, { network: true });
    const world = await World.open(weakened.platform);
    const sandbox = await world.start(["node", "-e", reachScript(targets)], { limits });
    let stdout = "";
    for await (const chunk of sandbox.stdout) stdout += chunk;
    expect(stdout).toContain(`${TAKEN} 127.0.0.1`);
    await world.close();
  });
});
