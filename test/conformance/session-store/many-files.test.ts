import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { describe, expect, it } from "vitest";
import { fingerprint, meta, TestStore } from "./support.ts";

const ref = { tenant: "t", sessionId: "many" };

/** Enough for the known directories to be listed in the threads, side by side. */
const DIRECTORIES = 60;
const FILES = 50;

describe("a tree of thousands of files", () => {
  it("is seen whole after every kind of change to a directory that is known", async () => {
    await using test = await TestStore.open("file");
    const here = test.directory();
    using copy = await test.store.hydrate(ref, undefined, here);
    const outside = test.directory();
    mkdirSync(join(outside, "f1"));
    const odd = Buffer.concat([Buffer.from(`${here}/`), Buffer.from([0x64, 0xff, 0x0a])]);
    mkdirSync(odd);
    writeFileSync(Buffer.concat([odd, Buffer.from([0x2f, 0xc3])]), "of an odd name");
    for (let directory = 0; directory < DIRECTORIES; directory++) {
      mkdirSync(join(here, `d${directory}/below`), { recursive: true });
      for (let file = 0; file < FILES; file++) writeFileSync(join(here, `d${directory}/f${file}`), `${file}`);
    }
    await copy.commit(await copy.mirror(), meta());
    using follower = await test.store.hydrate(ref, await test.store.readNewest(ref), test.directory());

    appendFileSync(join(here, "d0/f0"), "more");
    unlinkSync(join(here, "d1/f1"));
    rmSync(join(here, "d2"), { recursive: true });
    rmSync(join(here, "d3"), { recursive: true });
    symlinkSync(outside, join(here, "d3"));
    rmSync(join(here, "d4"), { recursive: true });
    execFileSync("mkfifo", [join(here, "d4")]);
    rmSync(join(here, "d5"), { recursive: true });
    writeFileSync(join(here, "d5"), "a file now");
    renameSync(join(here, "d6"), join(here, "d6-moved"));
    mkdirSync(join(here, "d7/new/newer"), { recursive: true });
    writeFileSync(join(here, "d7/new/newer/f"), "deep");
    chmodSync(join(here, "d8"), 0o700);
    writeFileSync(Buffer.concat([odd, Buffer.from([0x2f, 0xc3])]), "changed");
    renameSync(join(here, "d9/f9"), join(here, "d9/f8"));

    const mirror = await copy.mirror();
    expect(mirror.leftOut).toEqual([{ path: "d4", why: "special" }]);
    await copy.commit(mirror, meta());
    unlinkSync(join(here, "d4"));
    const expected = fingerprint(here);

    const newest = await test.store.readNewest(ref);
    const fresh = test.directory();
    using _ = await test.store.hydrate(ref, newest, fresh);
    expect(fingerprint(fresh)).toEqual(expected);
    await follower.restore(newest);
    expect(fingerprint(follower.directory)).toEqual(expected);
    expect((await copy.mirror()).isEmpty).toBe(true);
    expect((await follower.mirror()).isEmpty).toBe(true);
  });

  it("is not fetched again where only the time of what was just restored is doubtful", async () => {
    await using test = await TestStore.open("file");
    const here = test.directory();
    using copy = await test.store.hydrate(ref, undefined, here);
    for (let directory = 0; directory < DIRECTORIES; directory++) {
      mkdirSync(join(here, `d${directory}`));
      for (let file = 0; file < FILES; file++) writeFileSync(join(here, `d${directory}/f${file}`), `${file}`);
    }
    await copy.commit(await copy.mirror(), meta());
    const newest = await test.store.readNewest(ref);
    using follower = await test.store.hydrate(ref, newest, test.directory());
    test.requests.length = 0;
    await follower.restore(newest);
    expect(test.requests).toEqual([]);
    // Of the same size, at the same time, and another one all the same.
    writeFileSync(join(follower.directory, "d0/f0"), "X");
    await follower.restore(newest);
    // Nor is a set-id bit a time.
    chmodSync(join(follower.directory, "d1/f1"), 0o6644);
    await follower.restore(newest);
    expect(fingerprint(follower.directory)).toEqual(fingerprint(here));
  });
});
