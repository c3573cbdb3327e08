import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Commit } from "@longshore/session-store";
import { describe, expect, it } from "vitest";
import { fingerprint, meta, REF, type StoreKind, storeKinds, TestStore } from "../support.ts";
import { TestProcess } from "./test-process.ts";

const ROUNDS = 8;

describe.each(storeKinds)("a directory that a process works in, on %s", (kind: StoreKind) => {
  it("has every change in this generation or the next, and generations that are whole", async () => {
    await using test = await TestStore.open(kind);
    const here = test.directory();
    using copy = await test.store.hydrate(REF, undefined, here);
    await using busy = TestProcess.start("busy-process.ts", { directory: here });
    await busy.lines(1);
    const there = test.directory();
    using follower = await test.store.hydrate(REF, undefined, there);
    const disturbed: Commit[] = [];
    for (let round = 1; round <= ROUNDS; round++) {
      busy.tell("go");
      for (let mirrors = 0; mirrors < 2; mirrors++) {
        const { outcome, commit } = await copy.commit(await copy.mirror(), meta());
        expect(outcome).toBe("committed");
        disturbed.push(commit);
      }
      busy.tell("pause");
      await busy.lines(1 + round);
      // What was missed, for having happened after its place was looked at or while it was read, is seen now.
      const { commit } = await copy.commit(await copy.mirror(), meta());
      await follower.restore(commit);
      expect(fingerprint(there)).toEqual(fingerprint(here));
    }
    const appended = readFileSync(join(here, "appended"));
    for (const commit of disturbed) {
      const directory = test.directory();
      using _ = await test.store.hydrate(REF, commit, directory);
      for (const name of readdirSync(directory)) {
        if (name === "appended") {
          const prefix = readFileSync(join(directory, name));
          expect(prefix.equals(appended.subarray(0, prefix.length))).toBe(true);
        }
        if (name !== "atomic") continue;
        for (const file of readdirSync(join(directory, name))) {
          const content = readFileSync(join(directory, name, file));
          const digest = createHash("sha256").update(content.subarray(32)).digest();
          expect(content.subarray(0, 32).equals(digest)).toBe(true);
        }
      }
      rmSync(directory, { recursive: true });
    }
  });

  it("has a change that follows upon the reading within one step of the file system's clock", async () => {
    await using test = await TestStore.open(kind);
    const here = test.directory();
    // The one file system that still moves times with the kernel's tick: on others a look makes the next time another.
    execFileSync("mount", ["-t", "ramfs", "ramfs", here]);
    using mount = new DisposableStack();
    mount.defer(() => execFileSync("umount", ["--lazy", here]));
    using copy = await test.store.hydrate(REF, undefined, here);
    for (let round = 10; round < 40; round++) {
      writeFileSync(join(here, "f"), `before ${round}`);
      const mirror = await copy.mirror({ onRead: () => writeFileSync(join(here, "f"), `behind ${round}`) });
      await copy.commit(mirror, meta());
      // Of the same size, and often of the same time, as what was read.
      const next = await copy.mirror();
      expect(next.changed).toBe(1);
      await copy.commit(next, meta());
    }
  });
});
