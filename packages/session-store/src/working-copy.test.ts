import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openBackend } from "./backend/open-backend.ts";
import type { CommitMeta } from "./format/commit.ts";
import { SessionStore } from "./session-store.ts";

const ref = { tenant: "t", sessionId: "s" };
const meta: CommitMeta = { epoch: 1, nonce: "n", worker: "w", kind: "turn", note: {} };

describe("a working copy", () => {
  let base: string;
  let store: SessionStore;
  let reads: number;

  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), "working-copy-"));
    reads = 0;
    const backend = openBackend(`file://${base}/objects`, {
      onRequest: (operation) => (reads += operation === "get" ? 1 : 0),
    });
    store = new SessionStore({ backend, threads: 1 });
  });

  afterEach(async () => {
    await store.close();
    rmSync(base, { recursive: true, force: true });
  });

  const directory = (name: string): string => {
    mkdirSync(join(base, name));
    return join(base, name);
  };

  it("commits, is restored elsewhere, and follows without reading tables again", async () => {
    using here = await store.hydrate(ref, undefined, directory("here"));
    using there = await store.hydrate(ref, undefined, directory("there"));
    for (let turn = 1; turn <= 3; turn++) {
      writeFileSync(join(here.directory, "f"), `turn ${turn}`);
      const { commit } = await here.commit(await here.mirror(), meta);
      reads = 0;
      await there.restore(commit);
      expect(reads).toBe(0);
      expect(readFileSync(join(there.directory, "f"), "utf8")).toBe(`turn ${turn}`);
    }
  });

  it("leaves the directories that are there already: somebody may be at work in them", async () => {
    using here = await store.hydrate(ref, undefined, directory("here"));
    mkdirSync(join(here.directory, "workspace"));
    writeFileSync(join(here.directory, "workspace", "f"), "committed");
    mkdirSync(join(here.directory, "other"));
    const { commit } = await here.commit(await here.mirror(), meta);

    using there = await store.hydrate(ref, undefined, directory("there"));
    mkdirSync(join(there.directory, "workspace"));
    writeFileSync(join(there.directory, "workspace", "stray"), "");
    writeFileSync(join(there.directory, "other"), "a file where a directory is to be");
    const { ino } = statSync(join(there.directory, "workspace"));
    await there.restore(commit);
    expect(statSync(join(there.directory, "workspace")).ino).toBe(ino);
    expect(readdirSync(join(there.directory, "workspace"))).toEqual(["f"]);
    expect(readdirSync(join(there.directory, "other"))).toEqual([]);
  });

  it("keeps directories that the generation has not, where it is told to, for the next one", async () => {
    using here = await store.hydrate(ref, undefined, directory("here"));
    writeFileSync(join(here.directory, "workspace"), "a file in one generation");
    const { commit: file } = await here.commit(await here.mirror(), meta);
    rmSync(join(here.directory, "workspace"));
    const { commit: empty } = await here.commit(await here.mirror(), meta);

    using there = await store.hydrate(ref, undefined, directory("there"));
    for (const name of ["workspace", "home", "other"]) mkdirSync(join(there.directory, name));
    writeFileSync(join(there.directory, "home", "stray"), "");
    const { ino } = statSync(join(there.directory, "home"));
    const keep = ["workspace", "home", "none"];
    await there.restore(empty, { keep });
    expect(readdirSync(there.directory).sort()).toEqual(["home", "workspace"]);
    expect(readdirSync(join(there.directory, "home"))).toEqual([]);
    expect(statSync(join(there.directory, "home")).ino).toBe(ino);
    await there.restore(file, { keep });
    expect(readFileSync(join(there.directory, "workspace"), "utf8")).toBe("a file in one generation");
    await there.restore(empty, { keep });
    const mirror = await there.mirror();
    await there.commit(mirror, meta);
    expect([...there.table.paths()]).toEqual(["home"]);
  });

  it("begins in a directory that is in use, whose content is new to it or goes, and restores into none that is", async () => {
    const inUse = directory("in-use");
    writeFileSync(join(inUse, "stray"), "");
    await expect(store.hydrate(ref, undefined, inUse)).rejects.toMatchObject({ code: "DIRECTORY_NOT_EMPTY" });
    using here = await store.hydrate(ref, undefined, inUse, { inUse: true });
    const { commit } = await here.commit(await here.mirror(), meta);
    expect([...here.table.paths()]).toEqual(["stray"]);
    await expect(store.hydrate(ref, commit, inUse, { inUse: true })).rejects.toMatchObject({
      code: "DIRECTORY_NOT_EMPTY",
    });

    const other = directory("other-in-use");
    writeFileSync(join(other, "unknown"), "");
    using there = await store.hydrate(ref, undefined, other, { inUse: true });
    await there.restore(commit);
    expect(readdirSync(other)).toEqual(["stray"]);
  });

  it("does one thing at a time", async () => {
    using here = await store.hydrate(ref, undefined, directory("here"));
    const running = here.mirror();
    await expect(here.restore()).rejects.toMatchObject({ code: "WORKING_COPY_UNUSABLE" });
    await running;
    await here.restore();
  });

  it("can't be used once it is closed", async () => {
    const here = await store.hydrate(ref, undefined, directory("here"));
    here.close();
    here.close();
    await expect(here.mirror()).rejects.toMatchObject({ code: "WORKING_COPY_UNUSABLE" });
  });

  it("keeps merging deltas, so that no generation takes more than a handful of objects to read", async () => {
    using here = await store.hydrate(ref, undefined, directory("here"));
    for (let file = 0; file < 100; file++) writeFileSync(join(here.directory, `f${file}`), `${file}`);
    for (let turn = 1; turn <= 60; turn++) {
      writeFileSync(join(here.directory, `f${turn}`), `turn ${turn}`);
      const { commit } = await here.commit(await here.mirror(), meta);
      expect(commit.chain.deltas.length).toBeLessThanOrEqual(16);
    }
    const newest = await store.readNewest(ref);
    expect(newest?.chain.full).toBeDefined();
    using there = await store.hydrate(ref, newest, directory("there"));
    expect(readdirSync(there.directory)).toHaveLength(100);
    expect(readFileSync(join(there.directory, "f60"), "utf8")).toBe("turn 60");
  });
});
