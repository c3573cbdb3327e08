import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type SessionRef, SessionStore } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FaultProxy } from "../../../faults/fault-proxy.ts";
import { fingerprint, meta, type StoreKind, s3Options, storeKinds, TestStore } from "../support.ts";
import type { ActivationOrder } from "./activation-process.ts";
import { addSampleUpload, continueSampleTree, editSampleTree, makeSampleTree } from "./sample-tree.ts";

// The process of an activation is killed at every point where that can make a difference; each time the newest
// generation must be whole, the old one or the new one, and the next activation must work, with the chunk cache that
// all of them share.

/** Processes at once. */
const AT_ONCE = 2;

/** Of the points one in so many is taken in a run, beginning with a random one: each costs a process. 1 takes all. */
const STRIDE = { file: 3, s3: 1 };

/** Generations of a session before the activation; on files so many that its commit writes a table, too. */
const GENERATIONS = { file: 17, s3: 2 };

describe.each(storeKinds)("an activation killed on %s", { timeout: 300_000 }, (kind: StoreKind) => {
  let test: TestStore;
  /** What the session holds from its first generation on that counts here: before, worked on, rolled back, uploaded. */
  let trees: Record<string, string>[];
  const first = GENERATIONS[kind];
  let sessions = 0;
  /** Of the next activation, on the same host. */
  let store: SessionStore;

  beforeEach(async () => {
    test = await TestStore.open(kind);
    const cache = { directory: join(test.scratch, "cache"), maxBytes: 100_000_000 };
    store = new SessionStore({ backend: test.openBackend(), cache });
    const directory = test.directory();
    makeSampleTree(directory);
    const before = fingerprint(directory);
    addSampleUpload(directory);
    const uploaded = fingerprint(directory);
    rmSync(join(directory, "uploaded"));
    editSampleTree(directory);
    trees = [before, fingerprint(directory), before, uploaded];
    if (kind === "file") await makeGenerations(refOf("template"));
  });

  afterEach(async () => {
    await store.close();
    await test[Symbol.asyncDispose]();
  });

  function refOf(sessionId: string): SessionRef {
    return { tenant: "acme", sessionId };
  }

  async function makeGenerations(ref: SessionRef): Promise<void> {
    const directory = test.directory();
    using copy = await test.store.hydrate(ref, undefined, directory);
    for (let generation = 1; generation < first; generation++) {
      writeFileSync(join(directory, "workspace"), `${generation}`);
      await copy.commit(await copy.mirror(), meta());
    }
    rmSync(join(directory, "workspace"));
    makeSampleTree(directory);
    const { commit } = await copy.commit(await copy.mirror(), meta());
    expect(commit.generation).toBe(first);
  }

  async function newSession(): Promise<SessionRef> {
    const ref = refOf(`killed${sessions++}`);
    if (kind === "s3") await makeGenerations(ref);
    else {
      const directory = fileURLToPath(`${test.url}/acme/sessions`);
      cpSync(join(directory, "template"), join(directory, ref.sessionId), { recursive: true });
    }
    return ref;
  }

  /** @returns what it said before it ended, and where it worked */
  async function runActivation(
    ref: SessionRef,
    options: { readonly dieAt?: number; readonly endpoint?: string; readonly kill?: Promise<void> },
  ): Promise<{
    readonly said: string[];
    readonly signal: NodeJS.Signals | null;
    readonly directory: string;
  }> {
    const directory = test.directory();
    const { dieAt, endpoint } = options;
    const order: ActivationOrder = {
      url: test.url,
      ...(kind === "s3" ? { endpoint: endpoint ?? s3Options().endpoint ?? "" } : {}),
      sessionId: ref.sessionId,
      directory,
      cache: join(test.scratch, "cache"),
      ...(dieAt === undefined ? {} : { dieAt }),
    };
    const program = ["file-boundaries.ts", "activation-process.ts"].map((file) =>
      join(import.meta.dirname, file),
    );
    const child = spawn(process.execPath, ["--import", ...program, JSON.stringify(order)], {
      env: { ...process.env, NODE_OPTIONS: "", NODE_COMPILE_CACHE: join(test.scratch, "compiled") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    let complaints = "";
    child.stdout.on("data", (part: Buffer) => {
      said += part.toString();
    });
    child.stderr.on("data", (part: Buffer) => {
      complaints += part.toString();
    });
    void options.kill?.then(() => child.kill("SIGKILL"));
    const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
    if (code !== 0 && signal !== "SIGKILL") throw new Error(`the activation failed: ${complaints}`);
    return { said: said.split("\n").filter((line) => line !== ""), signal, directory };
  }

  /** What must hold after a kill, and that the session goes on from there. */
  async function expectWhole(ref: SessionRef, said: readonly string[], used: string): Promise<void> {
    const newest = await test.store.readNewest(ref);
    if (newest === undefined) throw new Error("the session is gone");
    const committed = newest.generation - first;
    const acknowledged = acknowledgedIn(said);
    // What it knew to be committed is; of what it was at, either is right.
    expect([acknowledged, acknowledged + 1]).toContain(committed);
    // The directory that was in use is of no generation; only an empty one can be taken for one.
    if (readdirSync(used).length > 0) {
      await expect(test.store.hydrate(ref, newest, used)).rejects.toMatchObject({
        code: "DIRECTORY_NOT_EMPTY",
      });
    }
    const next = test.directory();
    using copy = await store.hydrate(ref, newest, next);
    expect(fingerprint(next)).toEqual(trees[committed]);
    continueSampleTree(next);
    const result = await copy.commit(await copy.mirror(), meta({ epoch: 3 }));
    expect(result).toMatchObject({ outcome: "committed", commit: { parent: newest.generation } });
    const elsewhere = test.directory();
    using _ = await test.store.hydrate(ref, result.commit, elsewhere);
    expect(fingerprint(elsewhere)).toEqual(fingerprint(next));
    for (const directory of [used, next, elsewhere]) rmSync(directory, { recursive: true });
  }

  if (kind === "file") {
    it("at every change of a file system leaves the newest generation whole, and the next one works", async () => {
      const untouched = await runActivation(await newSession(), {});
      expect(untouched.said.slice(0, 4)).toEqual(["hydrated", "committed", "committed", "committed"]);
      expect(fingerprint(untouched.directory)).toEqual(trees[0]);
      const boundaries = Number(untouched.said[4]?.split(" ")[1]);
      expect(boundaries).toBeGreaterThan(40);
      await eachAtOnce(boundaries, STRIDE.file, async (dieAt) => {
        const ref = await newSession();
        const { said, signal, directory } = await runActivation(ref, { dieAt });
        // With what the cache has by now there may be less to do.
        if (signal !== "SIGKILL") expect(acknowledgedIn(said)).toBe(3);
        await expectWhole(ref, said, directory);
      });
    });
  }

  if (kind === "s3") {
    it("at every request leaves the newest generation whole, and the next one works", async () => {
      await using counting = await FaultProxy.start(s3Options().endpoint ?? "");
      const untouched = await runActivation(await newSession(), { endpoint: counting.url });
      expect(untouched.said[3]).toBe("committed");
      expect(counting.requests).toBeGreaterThan(8);
      let commits = 0;
      // Before a request reaches the store, and after it took place but before its answer arrives.
      await eachAtOnce(2 * counting.requests, STRIDE.s3, async (point) => {
        const ref = await newSession();
        await using proxy = await FaultProxy.start(s3Options().endpoint ?? "");
        const kill = Promise.withResolvers<void>();
        proxy.onHang = kill.resolve;
        let left = Math.floor(point / 2);
        let hasCommitted = false;
        proxy.rule = (method, path) => {
          if (left-- !== 0) return undefined;
          hasCommitted = point % 2 === 1 && method === "PUT" && path.includes("/log/");
          return point % 2 === 0 ? "hang" : "hang-after";
        };
        const { said, signal, directory } = await runActivation(ref, {
          endpoint: proxy.url,
          kill: kill.promise,
        });
        expect(signal).toBe("SIGKILL");
        // A commit that took place, and that nobody was told of.
        const unseen = ((await test.store.readNewest(ref))?.generation ?? 0) - first - acknowledgedIn(said);
        expect(unseen).toBe(hasCommitted ? 1 : 0);
        commits += unseen;
        await expectWhole(ref, said, directory);
      });
      expect(commits).toBeGreaterThan(0);
    });
  }
});

/** How many commits a process knew to have taken place. */
function acknowledgedIn(said: readonly string[]): number {
  return said.filter((line) => line === "committed").length;
}

/** Runs something for every number below a bound that is of this run, and says which failed. */
async function eachAtOnce(
  bound: number,
  stride: number,
  run: (number: number) => Promise<void>,
): Promise<void> {
  let next = Math.floor(Math.random() * stride);
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (next < bound) {
        const point = next;
        next += stride;
        await run(point).catch((error: unknown) => {
          throw new Error(`killed at point ${point} of ${bound}`, { cause: error });
        });
      }
    }),
  );
}
