import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fingerprint, meta, type StoreKind, storeKinds, TestStore } from "./support.ts";

// Random trees go through random changes, with a commit here and there; what another host restores must be the same.

/** Few names, so that changes meet each other; some unusual. */
const names = ["a", "b", "c", "ü\n", "x".repeat(255), " -rf", "d.e"];
const name = fc.constantFrom(...names);
const path = fc.array(name, { minLength: 1, maxLength: 3 });
/** From nothing, over what shares a frame, to several chunks. */
const size = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.integer({ min: 0, max: 400_000 }),
  fc.integer({ min: 1_000_000, max: 2_300_000 }),
);
const seconds = fc.integer({ min: -100_000, max: 4_000_000_000 });
const micros = fc.integer({ min: 0, max: 999_999 });

type Change = (root: string) => void;

const change: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .record({ path, size, seed: fc.nat(255) })
      .map(({ path: at, size: length, seed }) => write(at, length, seed)),
  },
  { weight: 2, arbitrary: path.map((at) => (root: string) => appendFileSync(join(root, ...at), "appended")) },
  {
    weight: 1,
    arbitrary: fc.tuple(path, size).map(
      ([at, length]) =>
        (root: string) =>
          truncateSync(join(root, ...at), length),
    ),
  },
  {
    weight: 2,
    arbitrary: path.map((at) => (root: string) => void mkdirSync(join(root, ...at), { recursive: true })),
  },
  {
    weight: 2,
    arbitrary: path.map((at) => (root: string) => rmSync(join(root, ...at), { recursive: true })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(path, path).map(
      ([from, to]) =>
        (root: string) =>
          renameSync(join(root, ...from), join(root, ...to)),
    ),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(path, fc.constantFrom(0o644, 0o600, 0o755, 0o700, 0o444))
      .map(([at, mode]) => chmodUnlessLink(at, mode)),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(path, fc.constantFrom("a", "../../etc", "/etc/passwd", "ü", "nowhere")).map(
      ([at, target]) =>
        (root: string) =>
          symlinkSync(target, join(root, ...at)),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(path, seconds, micros).map(
      ([at, s, us]) =>
        (root: string) =>
          lutimesSync(join(root, ...at), 1, s + (us + 0.5) / 1e6),
    ),
  },
  { weight: 2, arbitrary: fc.tuple(path, path).map(([from, to]) => copyKeepingTimes(from, to)) },
  { weight: 2, arbitrary: path.map((at) => sneakily(at)) },
);

function write(at: readonly string[], length: number, seed: number): Change {
  return (root) => {
    const target = join(root, ...at);
    mkdirSync(join(target, ".."), { recursive: true });
    // Half of it repeats, so that chunks and frames are shared; half does not, so that packs are made.
    const content = Buffer.alloc(length, `seed ${seed} `);
    if (seed % 2 === 0) randomBytes(Math.floor(length / 2)).copy(content);
    if (existsSync(target) && lstatSync(target).isSymbolicLink()) return;
    writeFileSync(target, content);
  };
}

function chmodUnlessLink(at: readonly string[], mode: number): Change {
  return (root) => {
    const target = join(root, ...at);
    if (!lstatSync(target).isSymbolicLink())
      chmodSync(target, lstatSync(target).isDirectory() ? mode | 0o100 : mode);
  };
}

function copyKeepingTimes(from: readonly string[], to: readonly string[]): Change {
  return (root) => {
    const stats = lstatSync(join(root, ...from));
    if (!stats.isFile()) return;
    rmSync(join(root, ...to), { force: true });
    copyFileSync(join(root, ...from), join(root, ...to));
    utimesSync(join(root, ...to), stats.atimeMs / 1000, stats.mtimeMs / 1000);
  };
}

/** Other content of the same size, and the old time put back. */
function sneakily(at: readonly string[]): Change {
  return (root) => {
    const stats = lstatSync(join(root, ...at));
    if (!stats.isFile()) return;
    writeFileSync(join(root, ...at), randomBytes(stats.size));
    utimesSync(join(root, ...at), stats.atimeMs / 1000, stats.mtimeMs / 1000);
  };
}

/** A change that does not apply to the tree as it is changes nothing. */
function attempt(apply: Change, root: string): void {
  try {
    apply(root);
  } catch (error) {
    if (!(error instanceof Error) || !("syscall" in error)) throw error;
  }
}

describe.each(storeKinds)("random trees on %s", (kind: StoreKind) => {
  it("are restored as they were, from nothing and over any earlier generation", {
    timeout: 600_000,
  }, async () => {
    await using test = await TestStore.open(kind);
    let session = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(change, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 5 }),
        async (turns) => {
          const ref = { tenant: "acme", sessionId: `random${session++}` };
          const here = test.directory();
          const there = test.directory();
          using copy = await test.store.hydrate(ref, undefined, here);
          using follower = await test.store.hydrate(ref, undefined, there);
          for (const [index, turn] of turns.entries()) {
            for (const apply of turn) attempt(apply, here);
            const result = await copy.commit(await copy.mirror(), meta());
            expect(result.outcome).toBe("committed");
            // The follower skips generations, and has changes of its own that must be undone.
            if (index % 2 === 0 && index !== turns.length - 1) continue;
            for (const apply of turns[0] ?? []) attempt(apply, there);
            await follower.restore(await test.store.readNewest(ref));
            expect(fingerprint(there)).toEqual(fingerprint(here));
          }
          const cold = test.directory();
          using restored = await test.store.hydrate(ref, await test.store.readNewest(ref), cold);
          expect(fingerprint(cold)).toEqual(fingerprint(here));
          expect((await restored.mirror()).isEmpty).toBe(true);
          for (const directory of [here, there, cold]) rmSync(directory, { recursive: true });
        },
      ),
      { numRuns: 25 },
    );
  });
});
