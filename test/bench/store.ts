import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";
import type { Benchmark, Measurement } from "./row.ts";
import { BenchServer } from "./store/bench-server.ts";
import { measureGibibyte } from "./store/gibibyte.ts";
import { measureHundredThousandFiles } from "./store/hundred-thousand-files.ts";
import { measureTenThousandFiles } from "./store/ten-thousand-files.ts";

/**
 * The session store beside rclone, restic and aws on the same S3 server, the same trees, in the same run: each row's peer
 * is the fastest of them.
 */
export const benchmark: Benchmark = async function* (wants) {
  await using scratch = await ScratchDirectory.create();
  await using server = new BenchServer();
  await using opened = server.openStore();
  // Also makes the server do what it does but once for a new bucket.
  await opened.store.probe();
  const parts: Readonly<Record<string, (directory: string) => AsyncIterable<Measurement>>> = {
    // First: what is removed after the part of many files goes on costing for minutes.
    gibibyte: (directory) => measureGibibyte(server, directory),
    small: (directory) => measureTenThousandFiles(server, opened, directory),
    many: (directory) => measureHundredThousandFiles(server, opened, directory),
  };
  for (const [name, measure] of Object.entries(parts)) {
    if (!wants(name)) continue;
    const directory = join(scratch.path, name);
    mkdirSync(directory);
    yield* measure(directory);
    rmSync(directory, { recursive: true });
  }
};
