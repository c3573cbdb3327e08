import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Measurement } from "../row.ts";
import { median, takeTurns } from "../turns.ts";
import type { BenchServer } from "./bench-server.ts";
import { Peer } from "./peers.ts";
import { comparedRow, expectFiles, OURS } from "./rows.ts";
import { runSessionProcess, type SessionProcessFigures, type SessionWork } from "./session-runs.ts";
import { makeRandomGibibyte, moveInto, settleDisk, useMemory, walk } from "./trees.ts";

const ROUNDS = 3;
const MB = 1e6;
/** What is written and half as much. */
const USED_MIB = 1536;
const COMPILED_BYTES = 16 * MB;

/** One upload and one download; in ms and bytes. */
interface Figures {
  readonly upload: number;
  readonly download: number;
  readonly uploadPeak: number;
  readonly downloadPeak: number;
  /** As a process with its start; of a peer the same as above. */
  readonly wholeUpload: number;
  readonly wholeDownload: number;
}

/**
 * The rows of 1 GiB of incompressible data: all of them by processes that do nothing else, ours too. Ours of
 * a restore is measured in one that has worked before, as a worker has, and as a whole process in another one that has not.
 */
export async function* measureGibibyte(server: BenchServer, scratch: string): AsyncGenerator<Measurement> {
  const peers = Peer.all(server, scratch);
  const tree = join(scratch, "gibibyte");
  const { files } = makeRandomGibibyte(tree);
  const smallTree = await compileOnce(server, scratch);
  const results = await takeTurns<Figures>(
    [{ name: OURS, run: () => runOurs(server, scratch, { tree, smallTree, files }) }],
    peers.map((peer) => ({
      name: peer.name,
      run: (round) => runPeer(server, peer, round, scratch, tree, files),
    })),
    { rounds: ROUNDS, cost: ({ upload, download }) => upload + download },
  );
  for (const path of [tree, smallTree]) rmSync(path, { recursive: true });

  const ours = figuresOf(results.get(OURS));
  const theirs = new Map(peers.map((peer) => [peer, figuresOf(results.get(peer.name))]));
  for (const command of ["upload", "download"] as const) {
    const work = `1 GiB incompressible, ${command === "upload" ? "mirror" : "restore"}`;
    const whole = command === "upload" ? "wholeUpload" : "wholeDownload";
    const peak = command === "upload" ? "uploadPeak" : "downloadPeak";
    const compare = (row: string, figure: keyof Figures) => ({
      work: row,
      ours: ours[figure],
      peers: new Map([...theirs].map(([peer, figures]) => [peer, figures[figure]])),
      command,
    });
    yield comparedRow({ ...compare(work, command), unit: "ms", target: { of: "ratio", atMost: 1 } });
    yield comparedRow({ ...compare("  as a whole process", whole), unit: "ms", tellAll: false });
    yield comparedRow({ ...compare("  peak RSS", peak), unit: "MB", target: { of: "ours", atMost: 300 } });
  }
}

/**
 * In an image the code is compiled once, too, and not by each process; that of the threads needs enough to be worth one.
 *
 * @returns the tree that it was done with
 */
async function compileOnce(server: BenchServer, scratch: string): Promise<string> {
  const sessionId = "compile";
  const tree = join(scratch, "compile-tree");
  mkdirSync(tree);
  writeFileSync(join(tree, "large"), randomBytes(COMPILED_BYTES));
  const directory = join(scratch, "compile-session");
  await runSessionProcess(server, { what: "commit", sessionId, directory, from: tree });
  const restored = join(scratch, "compile-restored");
  await runSessionProcess(server, { what: "restore", sessionId, directory: restored });
  moveInto(directory, tree);
  for (const path of [directory, restored]) rmSync(path, { recursive: true });
  return tree;
}

interface Trees {
  readonly tree: string;
  readonly smallTree: string;
  readonly files: number;
}

async function runOurs(server: BenchServer, scratch: string, trees: Trees): Promise<Figures> {
  const { tree, smallTree, files } = trees;
  const sessionId = "gibibyte";
  const directory = join(scratch, "gibibyte-session");
  const target = join(scratch, "gibibyte-restored");
  level(scratch);
  const up = await runSessionProcess(server, { what: "commit", sessionId, directory, from: tree });
  moveInto(directory, tree);
  const restore = async (more: Pick<SessionWork, "warmUpWith">): Promise<SessionProcessFigures> => {
    level(scratch);
    const down = await runSessionProcess(server, { what: "restore", sessionId, directory: target, ...more });
    expectFiles(walk(target), files, { name: OURS });
    rmSync(target, { recursive: true });
    return down;
  };
  const warm = await restore({ warmUpWith: smallTree });
  const whole = await restore({});
  rmSync(directory, { recursive: true });
  await server.remove("ours/");
  return {
    upload: up.workMilliseconds,
    download: warm.workMilliseconds,
    uploadPeak: up.peakBytes / MB,
    downloadPeak: Math.max(warm.peakBytes, whole.peakBytes) / MB,
    wholeUpload: up.milliseconds,
    wholeDownload: whole.milliseconds,
  };
}

async function runPeer(
  server: BenchServer,
  peer: Peer,
  round: number,
  scratch: string,
  tree: string,
  files: number,
): Promise<Figures> {
  const place = `gibibyte${round}`;
  const target = join(scratch, "gibibyte-restored");
  await peer.prepare(place);
  level(scratch);
  const up = await peer.upload(tree, place);
  level(scratch);
  const down = await peer.download(place, target);
  expectFiles(walk(target), files, peer);
  rmSync(target, { recursive: true });
  await server.remove(`${peer.name}/${place}/`);
  return {
    upload: up.milliseconds,
    download: down.milliseconds,
    uploadPeak: up.peakBytes / MB,
    downloadPeak: down.peakBytes / MB,
    wholeUpload: up.milliseconds,
    wholeDownload: down.milliseconds,
  };
}

/** Before each measurement: the same for all of them. */
function level(scratch: string): void {
  useMemory(scratch, USED_MIB);
  settleDisk();
}

/** Times as the median of all runs, memory as the most of any. */
function figuresOf(runs: readonly Figures[] = []): Figures {
  const medianOf = (figure: keyof Figures) => median(runs.map((run) => run[figure]));
  const mostOf = (figure: keyof Figures) => Math.max(...runs.map((run) => run[figure]));
  return {
    upload: medianOf("upload"),
    download: medianOf("download"),
    uploadPeak: mostOf("uploadPeak"),
    downloadPeak: mostOf("downloadPeak"),
    wholeUpload: medianOf("wholeUpload"),
    wholeDownload: medianOf("wholeDownload"),
  };
}
