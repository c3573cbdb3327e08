import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBackend, SessionStore } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fingerprint, meta, REF, TestStore } from "./support.ts";

// File systems that give out: a restore then leaves nothing that could be taken for a session, and a commit nothing half.

const MIB = 1024 * 1024;

describe("a file system that gives out", () => {
  let test: TestStore;
  let here: string;
  const mounts: string[] = [];

  beforeEach(async () => {
    test = await TestStore.open("file");
    here = test.directory();
  });

  afterEach(async () => {
    for (const mount of mounts.splice(0)) execFileSync("umount", ["--lazy", mount]);
    await test[Symbol.asyncDispose]();
  });

  /** A small file system of its own. @param options as `mount -o` has them */
  function smallFileSystem(options: string): string {
    const at = mkdtempSync(join(test.scratch, "small-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", at]);
    mounts.push(at);
    return at;
  }

  it.each([
    ["without room for the content", "size=1m", "ENOSPC"],
    ["without room for so many files", "nr_inodes=40", "ENOSPC"],
    ["that may not be written to", "ro", "EROFS"],
  ])(
    "%s fails a restore by name; the directory is of no use, and another one works",
    async (_name, options, errno) => {
      using copy = await test.store.hydrate(REF, undefined, here);
      for (let file = 0; file < 60; file++) writeFileSync(join(here, `f${file}`), randomBytes(30_000));
      writeFileSync(join(here, "large"), randomBytes(2 * MIB));
      const { commit } = await copy.commit(await copy.mirror(), meta());
      const small = smallFileSystem(options);
      await expect(test.store.hydrate(REF, commit, small)).rejects.toMatchObject({ code: "TREE_IO", errno });
      if (readdirSync(small).length > 0) {
        await expect(test.store.hydrate(REF, commit, small)).rejects.toMatchObject({
          code: "DIRECTORY_NOT_EMPTY",
        });
      }
      const elsewhere = test.directory();
      using _ = await test.store.hydrate(REF, commit, elsewhere);
      expect(fingerprint(elsewhere)).toEqual(fingerprint(here));
    },
  );

  it("full in the middle of a restore over a working copy makes that unusable, and nothing else", async () => {
    using copy = await test.store.hydrate(REF, undefined, here);
    writeFileSync(join(here, "small"), "small");
    const first = await copy.commit(await copy.mirror(), meta());
    writeFileSync(join(here, "large"), randomBytes(2 * MIB));
    const second = await copy.commit(await copy.mirror(), meta());
    const small = smallFileSystem("size=1m");
    using follower = await test.store.hydrate(REF, first.commit, small);
    await expect(follower.restore(second.commit)).rejects.toMatchObject({ code: "TREE_IO", errno: "ENOSPC" });
    // Else half a directory would become the next generation (I4).
    await expect(follower.mirror()).rejects.toMatchObject({ code: "WORKING_COPY_UNUSABLE" });
    await expect(follower.commit("unchanged", meta())).rejects.toMatchObject({
      code: "WORKING_COPY_UNUSABLE",
    });
    expect((await copy.commit("unchanged", meta())).commit.generation).toBe(3);
  });

  it("under the objects: a commit fails by name and leaves no half object; with room again it succeeds", async () => {
    const disk = smallFileSystem("size=3m");
    const options = { backend: openBackend(`file://${disk}/objects`), random: () => 0 };
    const store = new SessionStore(options);
    using copy = await store.hydrate(REF, undefined, here);
    writeFileSync(join(here, "f"), randomBytes(MIB));
    const first = await copy.commit(await copy.mirror(), meta());
    writeFileSync(join(here, "f"), randomBytes(MIB));
    writeFileSync(join(disk, "filler"), Buffer.alloc(1.5 * MIB));
    await expect(copy.mirror()).rejects.toMatchObject({ code: "STORE_UNAVAILABLE", retryable: true });
    // Not even room for a record.
    const left = "filler2";
    try {
      writeFileSync(join(disk, left), Buffer.alloc(2 * MIB));
    } catch {
      // Full to its last page, which is what is wanted.
    }
    await expect(copy.commit("unchanged", meta())).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    expect((await store.readNewest(REF))?.id).toBe(first.commit.id);
    expect(readdirSync(join(disk, "objects", ".staging"))).toEqual([]);
    rmSync(join(disk, "filler"));
    rmSync(join(disk, left));
    const second = await copy.commit(await copy.mirror(), meta());
    expect(second).toMatchObject({ outcome: "committed", commit: { generation: 2 } });
    const elsewhere = test.directory();
    using _ = await store.hydrate(REF, second.commit, elsewhere);
    expect(fingerprint(elsewhere)).toEqual(fingerprint(here));
    await store.close();
  });

  it("mounted into the tree is left out, and said so, and not read", async () => {
    using copy = await test.store.hydrate(REF, undefined, here);
    mkdirSync(join(here, "d"));
    writeFileSync(join(here, "d/f"), "x");
    await copy.commit(await copy.mirror(), meta());
    // Reading it would fail: there is nothing at the beginning of a process' memory.
    execFileSync("mount", ["--bind", "/proc/self/mem", join(here, "d/f")]);
    mounts.push(join(here, "d/f"));
    const mirror = await copy.mirror();
    expect(mirror.leftOut).toEqual([{ path: "d/f", why: "mount" }]);
    expect(mirror.removed).toBe(1);
  });
});
