import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { WorkingCopy } from "@longshore/session-store";
import type { Measurement } from "../row.ts";
import { median, takeTurns } from "../turns.ts";
import type { BenchServer, OpenedStore } from "./bench-server.ts";
import { Peer } from "./peers.ts";
import { comparedRow, expectFiles, mediansOf, OURS, OURS_WHOLE, ownRow } from "./rows.ts";
import { benchCommit, benchSession, runSessionProcess, timeCommit, timeHydrate } from "./session-runs.ts";
import { copyInto, makeSmallFiles, settleDisk, walk } from "./trees.ts";

const FILES = 10_000;
const ROUNDS = 3;
const KIB = 2 ** 10;
const MIB = 2 ** 20;

/**
 * The rows of a directory of 10,000 files of 5 KB on average.
 *
 * Nothing is removed before all of them are measured: ext4 passes over the inodes of what was removed within the last
 * minutes one by one, so that whoever makes 10,000 files after somebody's clean-up pays for it (seen: 0.4 s or 3 s).
 *
 * @param scratch is left with what was restored last
 */
export async function* measureTenThousandFiles(
  server: BenchServer,
  opened: OpenedStore,
  scratch: string,
): AsyncGenerator<Measurement> {
  const run = new TenThousandFiles(server, opened, scratch);
  try {
    yield* run.firstMirror();
    yield* run.mirrorOfOneChange();
    yield* run.coldRestore();
    yield* run.restoreOfOneChange();
    yield* run.append();
  } finally {
    run.close();
  }
}

class TenThousandFiles {
  readonly #server: BenchServer;
  readonly #opened: OpenedStore;
  readonly #scratch: string;
  readonly #peers: readonly Peer[];
  /** What the peers upload; ours has a copy of it in each session directory. */
  readonly #tree: string;
  /** The session of the last first mirror, and its directory on another host. */
  #copy: WorkingCopy | undefined;
  #elsewhere: WorkingCopy | undefined;

  constructor(server: BenchServer, opened: OpenedStore, scratch: string) {
    this.#server = server;
    this.#opened = opened;
    this.#scratch = scratch;
    this.#peers = Peer.all(server, scratch);
    this.#tree = join(scratch, "tree");
    makeSmallFiles(this.#tree, { files: FILES, size: 5000 });
  }

  close(): void {
    this.#copy?.close();
    this.#elsewhere?.close();
  }

  async *firstMirror(): AsyncGenerator<Measurement> {
    const requests: number[] = [];
    const results = await takeTurns(
      [
        {
          name: OURS,
          run: async (round) => {
            const copy = await this.#newSession(`s${round}`);
            this.#reset();
            const milliseconds = await timeCommit(copy);
            requests.push(this.#opened.traffic.requests);
            return milliseconds;
          },
        },
        {
          name: OURS_WHOLE,
          run: async (round) => {
            const from = this.#directory(`from${round}`);
            copyInto(this.#tree, from);
            settleDisk();
            const directory = join(this.#scratch, `whole${round}`);
            const work = { what: "commit", sessionId: `w${round}`, directory, from } as const;
            return (await runSessionProcess(this.#server, work)).milliseconds;
          },
        },
      ],
      this.#peers.map((peer) => ({
        name: peer.name,
        run: async (round) => {
          await peer.prepare(`small${round}`);
          settleDisk();
          return (await peer.upload(this.#tree, `small${round}`)).milliseconds;
        },
      })),
      { rounds: ROUNDS, cost: (milliseconds) => milliseconds },
    );
    const peers = mediansOf(this.#peers, results);
    const common = { unit: "ms", peers, command: "upload" } as const;
    const work = `first mirror of ${FILES} files`;
    const target = { of: "ratio", atMost: 1 / 2 } as const;
    yield comparedRow({ ...common, work, ours: median(results.get(OURS) ?? []), target });
    yield comparedRow({
      ...common,
      work: "  as a whole process",
      tellAll: false,
      ours: median(results.get(OURS_WHOLE) ?? []),
    });
    yield ownRow("  requests", "requests", Math.max(...requests), 20);
  }

  async *mirrorOfOneChange(): AsyncGenerator<Measurement> {
    const copy = this.#session;
    const requests: number[] = [];
    const bytes: number[] = [];
    const changed = new Set<number>();
    const results = await takeTurns(
      [
        {
          name: OURS,
          run: async (round) => {
            change(copy.directory, round);
            settleDisk();
            this.#reset();
            const milliseconds = await timeCommit(copy);
            requests.push(this.#opened.traffic.requests);
            bytes.push(this.#opened.traffic.bytesSent + this.#opened.traffic.bytesReceived);
            return milliseconds;
          },
        },
      ],
      this.#peers.map((peer) => ({
        name: peer.name,
        run: async (round) => {
          // One change for all of them, each of which has a place of its own.
          if (!changed.has(round)) change(this.#tree, round);
          changed.add(round);
          settleDisk();
          return (await peer.upload(this.#tree, "small0")).milliseconds;
        },
      })),
      { rounds: ROUNDS, cost: (milliseconds) => milliseconds },
    );
    yield comparedRow({
      work: `mirror after 1 changed file in ${FILES}`,
      unit: "ms",
      ours: median(results.get(OURS) ?? []),
      peers: mediansOf(this.#peers, results),
      command: "upload",
      target: { of: "ratio", atMost: 1 / 15 },
    });
    yield ownRow("  requests", "requests", Math.max(...requests), 2);
    yield ownRow("  sent and received", "KiB", Math.max(...bytes) / KIB, 64);
  }

  async *coldRestore(): AsyncGenerator<Measurement> {
    const { ref } = this.#session;
    if (!("sessionId" in ref)) throw new Error("the working copy is no session's");
    const results = await takeTurns(
      [
        {
          name: OURS,
          run: async (round) => {
            settleDisk();
            const directory = join(this.#scratch, `cold${round}`);
            const restored = await timeHydrate(this.#opened.store, ref, directory);
            expectFiles(walk(directory), FILES, { name: OURS });
            this.#elsewhere?.close();
            this.#elsewhere = restored.copy;
            return restored.milliseconds;
          },
        },
        {
          name: OURS_WHOLE,
          run: async (round) => {
            settleDisk();
            const directory = join(this.#scratch, `whole-cold${round}`);
            const work = { what: "restore", sessionId: ref.sessionId, directory } as const;
            return (await runSessionProcess(this.#server, work)).milliseconds;
          },
        },
      ],
      this.#peers.map((peer) => ({
        name: peer.name,
        run: async (round) => {
          settleDisk();
          const target = join(this.#scratch, `${peer.name}-cold${round}`);
          const { milliseconds } = await peer.download("small0", target);
          expectFiles(walk(target), FILES, peer);
          return milliseconds;
        },
      })),
      { rounds: ROUNDS, cost: (milliseconds) => milliseconds },
    );
    const peers = mediansOf(this.#peers, results);
    const common = { unit: "ms", peers, command: "download" } as const;
    const work = `restore ${FILES} files, cold`;
    const target = { of: "ratio", atMost: 1 / 3 } as const;
    yield comparedRow({ ...common, work, ours: median(results.get(OURS) ?? []), target });
    yield comparedRow({
      ...common,
      work: "  as a whole process",
      tellAll: false,
      ours: median(results.get(OURS_WHOLE) ?? []),
    });
  }

  async *restoreOfOneChange(): AsyncGenerator<Measurement> {
    const times: number[] = [];
    const requests: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      change(this.#session.directory, ROUNDS + round);
      await timeCommit(this.#session);
      this.#reset();
      const start = performance.now();
      await this.#elsewhere?.restore(await this.#opened.store.readNewest(this.#session.ref));
      times.push(performance.now() - start);
      requests.push(this.#opened.traffic.requests);
    }
    yield ownRow("restore over the generation before, 1 changed", "ms", median(times), 100);
    yield ownRow("  requests", "requests", Math.max(...requests), 3);
  }

  async *append(): AsyncGenerator<Measurement> {
    const copy = this.#session;
    const file = join(copy.directory, "large");
    writeFileSync(file, randomBytes(256 * MIB));
    await copy.commit(await copy.mirror(), benchCommit);
    writeFileSync(file, randomBytes(4 * KIB), { flag: "a" });
    this.#reset();
    await copy.commit(await copy.mirror(), benchCommit);
    yield ownRow("append 4 KiB to 256 MiB, sent", "MiB", this.#opened.traffic.bytesSent / MIB, 2);
  }

  get #session(): WorkingCopy {
    if (this.#copy === undefined) throw new Error("there is no session yet");
    return this.#copy;
  }

  /** A session whose directory holds the tree, as an agent would have put it there; takes the place of the last one. */
  async #newSession(id: string): Promise<WorkingCopy> {
    this.#copy?.close();
    const directory = this.#directory(id);
    this.#copy = await this.#opened.store.hydrate(benchSession(id), undefined, directory);
    copyInto(this.#tree, directory);
    settleDisk();
    return this.#copy;
  }

  #directory(name: string): string {
    const directory = join(this.#scratch, name);
    mkdirSync(directory);
    return directory;
  }

  #reset(): void {
    Object.assign(this.#opened.traffic, { requests: 0, bytesSent: 0, bytesReceived: 0 });
  }
}

/** Changes one file, another one each time. */
function change(directory: string, number: number): void {
  writeFileSync(join(directory, "d3", `f${number}`), `changed ${number}`);
}
