import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openBackend, SessionStore } from "@longshore/session-store";
import { LongshoreError } from "@longshore/shared";
import { fingerprint, meta } from "../support.ts";
import { arm, disarm, type Fate, recount } from "./file-boundaries.ts";
import { editSampleTree, makeSampleTree } from "./sample-tree.ts";

// A process whose disk fails: at every change of a file system in turn, once, and for good. Checks what must hold, and
// says how often a restore and a commit failed and how often they came through.

const { directory, fate } = JSON.parse(process.argv[2] ?? "") as {
  readonly directory: string;
  readonly fate: Fate;
};
const backend = openBackend(`file://${directory}/objects`);
const store = new SessionStore({ backend, threads: 1, random: () => 0 });
const newDirectory = () => mkdtempSync(join(directory, "tree-"));

/** Runs something with a disk that fails. @returns its error, or undefined and how many boundaries it has in all */
async function failing(
  at: number,
  run: () => Promise<void>,
): Promise<{ error?: LongshoreError; passed: boolean }> {
  recount();
  arm(at, fate);
  try {
    await run();
    return { passed: disarm() <= at };
  } catch (error) {
    disarm();
    // Nothing but errors that callers know leaves the package.
    assert(error instanceof LongshoreError, String((error as Error).stack));
    return { error, passed: false };
  }
}

const ref = { tenant: "acme", sessionId: "disk" };
using first = await store.hydrate(ref, undefined, newDirectory());
makeSampleTree(first.directory);
const tree = fingerprint(first.directory);
const base = (await first.commit(await first.mirror(), meta())).commit;

const counts = { restoresFailed: 0, commitsFailed: 0, commitsDone: 0, unsettled: 0 };
for (let at = 0; ; at++) {
  const target = newDirectory();
  const { error, passed } = await failing(at, async () => (await store.hydrate(ref, base, target)).close());
  if (passed) break;
  assert.equal(error?.code, "TREE_IO");
  assert.equal((error as LongshoreError & { errno?: string }).errno, "EIO");
  counts.restoresFailed++;
  if (readdirSync(target).length > 0) {
    await assert.rejects(store.hydrate(ref, base, target), { code: "DIRECTORY_NOT_EMPTY" });
  }
  const elsewhere = newDirectory();
  (await store.hydrate(ref, base, elsewhere)).close();
  assert.deepEqual(fingerprint(elsewhere), tree);
  for (const used of [target, elsewhere]) rmSync(used, { recursive: true });
}

let newest = base;
for (let at = 0; ; at++) {
  using copy = await store.hydrate(ref, newest, newDirectory());
  // Back and forth, so that there is something to store each time.
  if (at % 2 === 0) {
    for (const name of readdirSync(copy.directory)) rmSync(join(copy.directory, name), { recursive: true });
    makeSampleTree(copy.directory);
  } else editSampleTree(copy.directory);
  const { error, passed } = await failing(at, async () => {
    await copy.commit(await copy.mirror(), meta());
  });
  const standing = await store.readNewest(ref);
  assert(standing !== undefined);
  const happened = standing.id !== newest.id;
  if (error === undefined) {
    assert(happened);
    counts.commitsDone++;
  } else if (error.code === "COMMIT_UNSETTLED") counts.unsettled++;
  else {
    assert(!happened, `${error.code} at ${at} of a commit that took place`);
    counts.commitsFailed++;
  }
  const restored = newDirectory();
  (await store.hydrate(ref, standing, restored)).close();
  if (happened) assert.deepEqual(fingerprint(restored), fingerprint(copy.directory));
  newest = standing;
  for (const used of [copy.directory, restored]) rmSync(used, { recursive: true });
  if (passed) break;
}
console.log(JSON.stringify(counts));
await store.close();
