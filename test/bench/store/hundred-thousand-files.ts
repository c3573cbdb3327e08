import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Measurement } from "../row.ts";
import { median, takeTurns } from "../turns.ts";
import type { BenchServer, OpenedStore } from "./bench-server.ts";
import { expectFiles, OURS, ownRow } from "./rows.ts";
import { benchSession, runSessionProcess, timeCommit } from "./session-runs.ts";
import { addStampedFiles, makeSmallFiles, settleDisk, walk } from "./trees.ts";

const FILES = 100_000;
const LARGE_FILES = 40;
const LARGE_MEBIBYTES = 256;
const MB = 1e6;

/** The rows of 100,000 files of 1 KB on average, and of the same with 10 GiB more in large files. */
export async function* measureHundredThousandFiles(
  server: BenchServer,
  opened: OpenedStore,
  scratch: string,
): AsyncGenerator<Measurement> {
  const directory = join(scratch, "many");
  mkdirSync(directory);
  yield* measureOneChange(opened, directory);
  addStampedFiles(directory, LARGE_FILES, LARGE_MEBIBYTES);
  yield* measureMemory(server, directory, scratch);
}

async function* measureOneChange(opened: OpenedStore, directory: string): AsyncGenerator<Measurement> {
  const { store, traffic } = opened;
  using copy = await store.hydrate(benchSession("many"), undefined, directory);
  makeSmallFiles(directory, { files: FILES, size: 1000 });
  settleDisk();
  yield ownRow(`first mirror of ${FILES} files`, "ms", await timeCommit(copy));

  const requests: number[] = [];
  const results = await takeTurns(
    [
      {
        name: OURS,
        run: async (round) => {
          writeFileSync(join(directory, "d3", `f${round}`), `changed ${round}`);
          settleDisk();
          Object.assign(traffic, { requests: 0 });
          const milliseconds = await timeCommit(copy);
          requests.push(traffic.requests);
          return milliseconds;
        },
      },
      {
        name: "walk",
        run: () => {
          const start = performance.now();
          expectFiles(walk(directory), FILES, { name: "the tree" });
          return Promise.resolve(performance.now() - start);
        },
      },
    ],
    [],
    { cost: (milliseconds) => milliseconds },
  );
  yield {
    ...ownRow(`mirror after 1 changed file in ${FILES}`, "ms", median(results.get(OURS) ?? []), 1000),
    peer: median(results.get("walk") ?? []),
    peerCommand: `readdir and lstat of all ${FILES} files in Node.js, and nothing else`,
  };
  yield ownRow("  requests", "requests", Math.max(...requests), 2);
}

/** What a process needs at most that does nothing but to mirror such a directory, or to restore it. */
async function* measureMemory(
  server: BenchServer,
  from: string,
  scratch: string,
): AsyncGenerator<Measurement> {
  const sessionId = "memory";
  const work = `${FILES} files and ${(LARGE_FILES * LARGE_MEBIBYTES) / 2 ** 10} GiB`;
  const session = join(scratch, "memory");
  const mirrored = await runSessionProcess(server, { what: "commit", sessionId, directory: session, from });
  yield ownRow(`${work}: mirror, peak RSS`, "MB", mirrored.peakBytes / MB);
  settleDisk();

  const directory = join(scratch, "memory-restored");
  const restored = await runSessionProcess(server, { what: "restore", sessionId, directory });
  expectFiles(walk(directory), FILES + LARGE_FILES, { name: OURS });
  yield ownRow(`${work}: restore, peak RSS`, "MB", restored.peakBytes / MB);
  rmSync(directory, { recursive: true });
}
