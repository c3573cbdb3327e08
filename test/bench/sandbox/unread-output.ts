import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { BwrapRuntime, DockerRuntime } from "@longshore/sandbox";
import type { Measurement } from "../row.ts";
import { BenchSandboxes, runDirectoryOf } from "./bench-sandbox.ts";

const MB = 1e6;
/** Longer than what a program needs that writes as fast as it can. */
const UNREAD_MS = 5_000;
const LOOK_MS = 10;

/** How much the memory of a worker grows by a program that writes 512 MB which nobody reads. */
export async function* measureUnreadOutput(options: {
  readonly directory: string;
  readonly rootfs: string;
  readonly engine: string;
  readonly image: string;
}): AsyncGenerator<Measurement> {
  const runDirectory = runDirectoryOf(options.directory);
  await mkdir(runDirectory, { recursive: true, mode: 0o711 });
  const host = hostname();
  const runtimes = [
    [new BwrapRuntime({ host, runDirectory }), { rootfs: options.rootfs }],
    [new DockerRuntime({ address: options.engine, host, runDirectory }), { image: options.image }],
  ] as const;
  for (const [runtime, root] of runtimes) {
    await using sandboxes = await BenchSandboxes.open(runtime, runDirectory);
    const command = ["/bin/sh", "-c", "head -c 512000000 /dev/zero"];
    // The first one brings what every start needs.
    await sandboxes.with(["/bin/true"], root, async (sandbox) => await sandbox.exited);
    const grown = await sandboxes.with(command, root, async (sandbox) => {
      const before = process.memoryUsage.rss();
      let most = before;
      // It is read by nobody, but asked for: the stream fills what it may.
      sandbox.stdout.once("readable", () => undefined);
      const end = performance.now() + UNREAD_MS;
      while (performance.now() < end) {
        await sleep(LOOK_MS);
        most = Math.max(most, process.memoryUsage.rss());
      }
      return most - before;
    });
    yield {
      work: `512 MB of unread output, ${runtime.name}: memory of the worker`,
      unit: "MB",
      ours: grown / MB,
      peer: null,
      target: { of: "ours", atMost: 32 },
    };
  }
}
