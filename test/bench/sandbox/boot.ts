import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import type { Readable, Writable } from "node:stream";
import { BwrapRuntime } from "@longshore/sandbox";
import type { Measurement } from "../row.ts";
import { median } from "../turns.ts";
import { BenchSandboxes, runDirectoryOf } from "./bench-sandbox.ts";

const WARM_UP = 2;
const RUNS = 100;
const AGENT = ["/usr/local/bin/node", "/opt/agent/main.js"];
const INITIALIZE = JSON.stringify({
  ...{ jsonrpc: "2.0", id: 1, method: "initialize" },
  params: { protocolVersion: 1, clientCapabilities: {} },
});

/** What bubblewrap adds to the start of the reference agent, beside the same program in the same root without it. */
export async function* measureBoot(directory: string, rootfs: string): AsyncGenerator<Measurement> {
  const runDirectory = runDirectoryOf(directory);
  await mkdir(runDirectory, { recursive: true, mode: 0o711 });
  const runtime = new BwrapRuntime({ host: hostname(), runDirectory });
  await using sandboxes = await BenchSandboxes.open(runtime, runDirectory);
  const ours: number[] = [];
  const own: number[] = [];
  for (let run = 0; run < WARM_UP + RUNS; run++) {
    const start = performance.now();
    await sandboxes.with(AGENT, { rootfs }, async ({ stdin, stdout }) => {
      await answered(stdin, stdout);
      ours.push(performance.now() - start);
    });
    own.push(await timeOwnBoot(rootfs));
  }
  const [inSandbox, alone] = [median(ours.slice(WARM_UP)), median(own.slice(WARM_UP))];
  const peerCommand = `chroot ROOTFS ${AGENT.join(" ")}`;
  yield {
    work: "bwrap: start to the agent's first answer",
    unit: "ms",
    ours: inSandbox,
    peer: alone,
    peerCommand,
  };
  yield {
    work: "  beyond the agent's own boot",
    unit: "ms",
    ours: inSandbox - alone,
    peer: null,
    target: { of: "ours", atMost: 20 },
  };
}

async function timeOwnBoot(rootfs: string): Promise<number> {
  const start = performance.now();
  const child = spawn("chroot", [rootfs, ...AGENT], {
    env: { HOME: "/tmp", PATH: "/usr/sbin:/usr/bin:/bin" },
    stdio: ["pipe", "pipe", "ignore"],
  });
  await answered(child.stdin, child.stdout);
  const took = performance.now() - start;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  return took;
}

async function answered(stdin: Writable, stdout: Readable): Promise<void> {
  stdin.write(`${INITIALIZE}\n`);
  await once(stdout, "data");
}
