import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SessionTree } from "./session-tree.ts";
import { sessionPathOfApi, sessionPathOfTool, splitTreePath } from "./session-tree-paths.ts";

let base: string;
let root: string;
let outside: string;
let tree: SessionTree;

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "session-tree-"));
  root = join(base, "root");
  outside = join(base, "outside");
  mkdirSync(root);
  mkdirSync(outside);
  writeFileSync(join(outside, "secret"), "secret");
  tree = SessionTree.open(root);
});

afterEach(() => {
  tree.close();
  rmSync(base, { recursive: true, force: true });
});

const code = (expected: string, reason?: string) =>
  expect.objectContaining(reason === undefined ? { code: expected } : { code: expected, reason });

describe("paths", () => {
  it.each([
    ["", "empty"],
    ["/a", "absolute"],
    ["a//b", "empty part"],
    ["a/", "empty part"],
    ["../a", "parent"],
    ["a/../b", "parent inside"],
    ["./a", "dot"],
    ["a\0b", "NUL"],
    ["x".repeat(256), "long name"],
    ["a/".repeat(2048).concat("bc"), "long path"],
    ["a\ud800", "unpaired surrogate"],
  ])("refuses %j (%s)", (path) => {
    expect(() => splitTreePath(path)).toThrow(code("UNSAFE_PATH", "malformed"));
  });

  it("takes any bytes but NUL and slash as a name", () => {
    const name = Buffer.from(Array.from({ length: 255 }, (_, i) => (i + 1 === 0x2f ? 0x30 : i + 1)));
    expect(splitTreePath(Buffer.concat([Buffer.from("a/"), name]))).toEqual([Buffer.from("a"), name]);
  });

  it("takes the three shapes of an API path for the same file", () => {
    for (const shape of ["workspace/a/b", "/workspace/a/b", "/session/workspace/a/b", "workspace//./a/b"]) {
      expect(sessionPathOfApi(shape)).toBe("workspace/a/b");
    }
    for (const shape of ["a/b", "/a/b", "/session/workspace/a/b"]) {
      expect(sessionPathOfTool(shape)).toBe("workspace/a/b");
    }
    expect(sessionPathOfTool("/session/home/x")).toBe("home/x");
  });

  it.each(["..", "/..", "a/../../b", "/session/../etc/passwd", "", "/", "/session/", "a\0"])(
    "refuses %j",
    (path) => {
      expect(() => sessionPathOfApi(path)).toThrow(code("UNSAFE_PATH", "malformed"));
      expect(() => sessionPathOfTool(path)).toThrow(code("UNSAFE_PATH", "malformed"));
    },
  );
});

describe("ordinary use", () => {
  it("writes, reads, lists, renames and removes", async () => {
    await tree.makeDirectory("a/b", { recursive: true, mode: 0o750 });
    await tree.makeDirectory("a/b", { recursive: true });
    await tree.writeFile("a/b/f", Buffer.from("one"), { mode: 0o4755 });
    expect(statSync(join(root, "a/b/f")).mode & 0o7777).toBe(0o755);
    expect(statSync(join(root, "a/b")).mode & 0o777).toBe(0o750);
    expect((await tree.readFile("a/b/f", { maxBytes: 3 })).toString()).toBe("one");
    await tree.symlink("../../../etc", "a/l");
    expect((await tree.readlink("a/l")).toString()).toBe("../../../etc");
    expect((await tree.list("a")).map((entry) => [entry.name.toString(), entry.type]).sort()).toEqual([
      ["b", "directory"],
      ["l", "link"],
    ]);
    await tree.rename("a/b/f", "g");
    await tree.chmod("g", 0o600);
    await tree.utimes("g", 1, 1_700_000_000.123456);
    expect(Math.round((await tree.lstat("g")).mtimeMs * 1000)).toBe(1_700_000_000_123_456);
    await tree.remove("a", { recursive: true });
    await tree.remove("a", { recursive: true, missingOk: true });
    expect((await tree.list(".")).map((entry) => entry.name.toString())).toEqual(["g"]);
    await tree.remove("g");
    await expect(tree.lstat("g")).rejects.toEqual(code("PATH_NOT_FOUND"));
  });

  it("keeps names that are not UTF-8", async () => {
    const name = Buffer.from([0x66, 0xff, 0x0a, 0xfe]);
    await tree.writeFile(name, Buffer.from("x"));
    expect((await tree.list("."))[0]?.name).toEqual(name);
    expect(readdirSync(root, { encoding: "buffer" })).toEqual([name]);
  });

  it("replaces a file, and refuses to with `exclusive`", async () => {
    await tree.writeFile("f", Buffer.from("old"));
    await tree.writeFile("f", Buffer.from("new"));
    expect(readFileSync(join(root, "f"), "utf8")).toBe("new");
    await expect(tree.writeFile("f", Buffer.from("x"), { exclusive: true })).rejects.toEqual(
      code("PATH_EXISTS"),
    );
  });

  it("bounds what it reads", async () => {
    await tree.writeFile("f", Buffer.alloc(10));
    await expect(tree.readFile("f", { maxBytes: 9 })).rejects.toEqual(code("TREE_LIMIT"));
    await tree.writeFile("g", Buffer.alloc(1));
    await expect(tree.list(".", { limit: 1 })).rejects.toEqual(code("TREE_LIMIT"));
  });

  it("refuses operations after it was closed", async () => {
    tree.close();
    await expect(tree.list(".")).rejects.toEqual(code("TREE_IO"));
  });

  it("removes a tree that is far deeper than the descriptors it holds open", {
    timeout: 60_000,
  }, async () => {
    const maker = spawn("python3", [
      "-c",
      "import os,sys\nos.chdir(sys.argv[1])\nfor i in range(int(sys.argv[2])):\n os.mkdir('d'); open('f','w').close(); os.chdir('d')",
      root,
      "1000",
    ]);
    await new Promise((resolve) => maker.once("exit", resolve));
    expect(existsSync(join(root, "d/d"))).toBe(true);
    await tree.remove("d", { recursive: true });
    expect(readdirSync(root)).toEqual(["f"]);
  });
});

describe("links", () => {
  it("follows none, at any level, in any operation", async () => {
    mkdirSync(join(root, "a"));
    symlinkSync(outside, join(root, "a/out"));
    symlinkSync(join(outside, "secret"), join(root, "a/file"));
    symlinkSync(join(outside, "made"), join(root, "a/dangling"));
    const below = "a/out/secret";
    const unsafe = code("UNSAFE_PATH");
    await expect(tree.openFile(below)).rejects.toEqual(unsafe);
    await expect(tree.openFile("a/file")).rejects.toEqual(code("UNSAFE_PATH", "link"));
    await expect(tree.readFile("a/file", { maxBytes: 100 })).rejects.toEqual(unsafe);
    await expect(tree.writeFile(below, Buffer.from("x"))).rejects.toEqual(unsafe);
    await expect(tree.makeDirectory("a/out/new")).rejects.toEqual(unsafe);
    await expect(tree.makeDirectory("a/out/new/er", { recursive: true })).rejects.toEqual(unsafe);
    await expect(tree.makeDirectory("a/dangling/x", { recursive: true })).rejects.toEqual(unsafe);
    await expect(tree.list("a/out")).rejects.toEqual(unsafe);
    await expect(tree.lstat(below)).rejects.toEqual(unsafe);
    await expect(tree.rename(below, "stolen")).rejects.toEqual(unsafe);
    await expect(tree.remove(below)).rejects.toEqual(unsafe);
    await expect(tree.remove("a/out/secret", { recursive: true })).rejects.toEqual(unsafe);
    await expect(tree.chmod("a/file", 0o777)).rejects.toEqual(code("UNSAFE_PATH", "link"));
    await expect(tree.chmod(below, 0o777)).rejects.toEqual(unsafe);
    await expect(tree.chown(below, { uid: 0, gid: 0 })).rejects.toEqual(unsafe);
    await expect(tree.symlink("x", "a/out/l")).rejects.toEqual(unsafe);
    const before = lstatSync(join(outside, "secret")).mtimeMs;
    await tree.utimes("a/file", 1, 1);
    expect(lstatSync(join(outside, "secret")).mtimeMs).toBe(before);
    await tree.writeFile("a/dangling", Buffer.from("x"));
    await tree.writeFile("a/file", Buffer.from("mine"));
    expect(lstatSync(join(root, "a/file")).isFile()).toBe(true);
    await tree.remove("a", { recursive: true });
    expect(readdirSync(outside)).toEqual(["secret"]);
    expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
  });

  it("refuses a root that is a link", () => {
    symlinkSync(outside, join(base, "link"));
    expect(() => SessionTree.open(join(base, "link"))).toThrow(code("UNSAFE_PATH"));
  });

  it("refuses a second name of a file where one is asked for", async () => {
    linkSync(join(outside, "secret"), join(root, "hard"));
    await expect(tree.openFile("hard", { singleLink: true })).rejects.toEqual(
      code("UNSAFE_PATH", "hard-link"),
    );
    await (await tree.openFile("hard")).handle.close();
  });

  it("neither waits for a FIFO nor reads a device, socket or directory", async () => {
    const maker = spawn("mkfifo", [join(root, "fifo")]);
    await new Promise((resolve) => maker.once("exit", resolve));
    await expect(tree.openFile("fifo")).rejects.toEqual(code("UNSAFE_PATH", "not-a-file"));
    mkdirSync(join(root, "dir"));
    await expect(tree.openFile("dir")).rejects.toEqual(code("UNSAFE_PATH", "not-a-file"));
    await tree.writeFile("fifo", Buffer.from("x"));
    expect(lstatSync(join(root, "fifo")).isFile()).toBe(true);
  });
});

/** Swaps `victim` (a directory) with a link to `outside` and back, 30 microseconds in each state, until it is killed. */
const ATTACKER = `
const fs = require("node:fs");
const [victim, outside] = process.argv.slice(1);
fs.symlinkSync(outside, victim + ".link");
process.stdout.write("ready");
const dwell = () => { for (const end = process.hrtime.bigint() + 30_000n; process.hrtime.bigint() < end; ); };
for (;;) {
  fs.renameSync(victim, victim + ".dir");
  fs.renameSync(victim + ".link", victim);
  dwell();
  fs.renameSync(victim, victim + ".link");
  fs.renameSync(victim + ".dir", victim);
  dwell();
}`;

describe("a racing attacker", () => {
  let attacker: ChildProcess;

  beforeEach(async () => {
    mkdirSync(join(root, "a/v"), { recursive: true });
    writeFileSync(join(root, "a/v/secret"), "inside");
    chmodSync(join(outside, "secret"), 0o640);
    attacker = spawn(process.execPath, ["-e", ATTACKER, join(root, "a/v"), outside]);
    await new Promise((resolve) => attacker.stdout?.once("data", resolve));
  });

  afterEach(async () => {
    attacker.kill("SIGKILL");
    if (attacker.exitCode === null && attacker.signalCode === null) {
      await new Promise((resolve) => attacker.once("exit", resolve));
    }
  });

  it("never makes an operation happen outside of the tree", { timeout: 60_000 }, async () => {
    let succeeded = 0;
    let refused = 0;
    const read = new Set<string>();
    const count = (operation: Promise<unknown>) =>
      operation.then(
        () => succeeded++,
        () => refused++,
      );
    for (let round = 0; round < 1500; round++) {
      await count(tree.readFile("a/v/secret", { maxBytes: 100 }).then((bytes) => read.add(bytes.toString())));
      await count(tree.writeFile("a/v/new", Buffer.from("x")));
      await count(tree.makeDirectory("a/v/d"));
      await count(tree.chmod("a/v/secret", 0o666));
      await count(tree.remove("a/v/new"));
      await count(tree.remove("a/v/d", { recursive: true }));
    }
    expect([...read]).toEqual(["inside"]);
    expect(readdirSync(outside)).toEqual(["secret"]);
    expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
    expect(statSync(join(outside, "secret")).mode & 0o777).toBe(0o640);
    // Both must have happened, or the attacker did not race at all.
    expect(succeeded).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  });

  it("does not make a recursive removal reach outside", { timeout: 60_000 }, async () => {
    for (let round = 0; round < 200; round++) {
      await tree.remove("a/v", { recursive: true, missingOk: true }).catch(() => undefined);
      await tree.makeDirectory("a/v", { recursive: true }).catch(() => undefined);
      await tree.writeFile("a/v/secret", Buffer.from("inside")).catch(() => undefined);
    }
    expect(readFileSync(join(outside, "secret"), "utf8")).toBe("secret");
  });
});
