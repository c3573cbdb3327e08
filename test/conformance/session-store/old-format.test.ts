import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { collect, fingerprint, meta, REF, run, TestStore } from "./support.ts";

// A store as the first released version of the package wrote it: packs and tables named by their content, no salts.
const FIXTURE = fileURLToPath(new URL("fixtures/format-1.tar.gz", import.meta.url));

let test: TestStore;
let trees: Record<string, Record<string, string>>;

beforeEach(async () => {
  test = await TestStore.open("file");
  const objects = join(test.scratch, "objects");
  mkdirSync(objects);
  run("tar", "-xzf", FIXTURE, "-C", objects);
  trees = JSON.parse(readFileSync(join(objects, "trees.json"), "utf8"));
});

afterEach(async () => {
  await test[Symbol.asyncDispose]();
});

it("restores every generation of the first format, and goes on from it", async () => {
  for (const [generation, tree] of Object.entries(trees)) {
    const directory = test.directory();
    using _ = await test.store.hydrate(REF, await test.store.readCommit(REF, Number(generation)), directory);
    expect(fingerprint(directory)).toEqual(tree);
  }
  const directory = test.directory();
  using copy = await test.store.hydrate(REF, await test.store.readNewest(REF), directory);
  // Enough commits for a table of the present format over one of the first.
  for (let turn = 0; turn < 10; turn++) {
    run("touch", "-d", `@${turn}`, join(directory, "workspace/f7"));
    expect((await copy.commit(await copy.mirror(), meta())).outcome).toBe("committed");
  }
  const elsewhere = test.directory();
  using _ = await test.store.hydrate(REF, await test.store.readNewest(REF), elsewhere);
  expect(fingerprint(elsewhere)).toEqual(fingerprint(directory));
});

it("finds attachments that were accepted under their content alone", async () => {
  const opened = await test.store.openInbound(
    REF,
    "805498d6040a264a2d7552fee89a47202d50829896874f574de99743a862e452",
  );
  expect((await collect(opened.stream())).toString()).toBe("an attachment");
});
