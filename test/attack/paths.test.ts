import { existsSync } from "node:fs";
import { chmod, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SandboxSpec } from "@longshore/sandbox";
import { SessionTree } from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { readUntil, World } from "../conformance/sandbox/world.ts";
import { meta, REF, TestStore } from "../conformance/session-store/support.ts";
import { swapScript } from "./scripts.ts";
import { attacked } from "./weakened.ts";

const SECRET = "what no session may see";
/** Of a worker that looks where it goes. */
const ROUNDS = 1_500;
const MIRRORS = 30;
/** Of one that does not: each of its operations is fooled sooner or later. */
const ROUNDS_MAX = 100_000;

/** What a worker does in a session's directory, by paths below it. */
interface HostWork {
  read(path: string): Promise<Buffer>;
  write(path: string, content: Buffer): Promise<void>;
  makeDirectory(path: string): Promise<void>;
  chmod(path: string, mode: number): Promise<void>;
  remove(path: string): Promise<void>;
  list(path: string): Promise<readonly string[]>;
}

/** As the worker does it. */
function careful(tree: SessionTree): HostWork {
  return {
    read: (path) => tree.readFile(path, { maxBytes: 100 }),
    write: (path, content) => tree.writeFile(path, content),
    makeDirectory: (path) => tree.makeDirectory(path),
    chmod: (path, mode) => tree.chmod(path, mode),
    remove: (path) => tree.remove(path, { recursive: true }),
    list: async (path) => (await tree.list(path)).map(({ name }) => name.toString()),
  };
}

/** As it is usually done: look whether a link is in the way, and then go there. */
function careless(root: string): HostWork {
  const checked = async (path: string) => {
    if ((await lstat(join(root, path, ".."))).isSymbolicLink()) throw new Error("a link is in the way");
    return join(root, path);
  };
  return {
    read: async (path) => await readFile(await checked(path)),
    write: async (path, content) => await writeFile(await checked(path), content),
    makeDirectory: async (path) => await mkdir(await checked(path)),
    chmod: async (path, mode) => await chmod(await checked(path), mode),
    remove: async (path) => await rm(await checked(path), { recursive: true }),
    list: async (path) => await readdir(join(await checked(`${path}/x`), "..")),
  };
}

const KINDS = ["listed", "made in", "read", "removed in", "changed", "wrote in"] as const;
type Taken = (typeof KINDS)[number];

/** Works in `outbox/v` until a kind of operation each has met the host's directory, or all rounds are over. */
async function takenBy(work: HostWork, host: string, rounds: number) {
  const taken = new Set<Taken>();
  const told = { done: 0, refused: 0 };
  const attempt = async <T>(operation: Promise<T>): Promise<T | undefined> => {
    try {
      const result = await operation;
      told.done++;
      return result;
    } catch {
      told.refused++;
      return undefined;
    }
  };
  const bait = join(host, "bait");
  for (let round = 0; round < rounds && taken.size < KINDS.length; round++) {
    await writeFile(bait, "");
    if ((await attempt(work.list("outbox/v")))?.includes("of-the-host")) taken.add("listed");
    if ((await attempt(work.read("outbox/v/secret")))?.toString() === SECRET) taken.add("read");
    await attempt(work.write("outbox/v/new", Buffer.from("x")));
    if (existsSync(join(host, "new"))) taken.add("wrote in");
    await attempt(work.makeDirectory("outbox/v/d"));
    if (existsSync(join(host, "d"))) taken.add("made in");
    await attempt(work.chmod("outbox/v/secret", 0o666));
    if (((await stat(join(host, "secret"))).mode & 0o777) !== 0o600) taken.add("changed");
    await attempt(work.remove("outbox/v/bait"));
    if (!existsSync(bait)) taken.add("removed in");
    await attempt(work.remove("outbox/v/d"));
    await attempt(work.remove("outbox/v/new"));
  }
  return { taken: [...taken].toSorted(), ...told };
}

interface Race {
  readonly world: World;
  readonly spec: SandboxSpec;
  /** A directory of the host. */
  readonly host: string;
  /** From here on the agent swaps `outbox/v` with a link to it. */
  begin(): Promise<void>;
}

describe.each(attacked)(
  "$name: an agent that swaps a directory with a link while the worker works in it",
  (platform) => {
    async function race(run: (race: Race) => Promise<void>) {
      const host = await mkdtemp(join(tmpdir(), "longshore-host-paths-"));
      await writeFile(join(host, "secret"), SECRET, { mode: 0o600 });
      await writeFile(join(host, "of-the-host"), SECRET);
      const world = await World.open(platform);
      try {
        const command = ["node", "-e", swapScript("/session/outbox/v", host)];
        const spec = await world.spec(command);
        const begin = async () => void (await readUntil(await world.start(command, spec), "ready"));
        await run({ world, spec, host, begin });
        expect(await readFile(join(host, "secret"), "utf8")).toBe(SECRET);
      } finally {
        await world.close();
        await rm(host, { recursive: true });
      }
    }

    it("leads it nowhere", async () => {
      await race(async ({ spec, host, begin }) => {
        await begin();
        using tree = SessionTree.open(spec.slotDirectory);
        const { taken, done, refused } = await takenBy(careful(tree), host, ROUNDS);
        expect(taken).toEqual([]);
        // Else nothing was raced.
        expect(done).toBeGreaterThan(0);
        expect(refused).toBeGreaterThan(0);
      });
    });

    it("leads one astray that looks before it goes", async () => {
      await race(async ({ spec, host, begin }) => {
        await begin();
        const { taken } = await takenBy(careless(spec.slotDirectory), host, ROUNDS_MAX);
        expect(taken).toEqual(KINDS.toSorted());
      });
    });

    it("has nothing of the host stored, and nothing of it removed with the session", async () => {
      await using test = await TestStore.open("file");
      const { store } = test;
      await race(async ({ world, spec, host, begin }) => {
        using copy = await store.hydrate(REF, undefined, spec.slotDirectory, { inUse: true });
        await begin();
        for (let round = 0; round < MIRRORS; round++)
          await copy.commit(await copy.mirror(), meta({ epoch: 1 }));
        const commits = await store.listCommits(REF);
        expect(commits.length).toBeGreaterThan(1);
        for (const { generation } of commits) {
          const place = test.directory();
          (await store.hydrate(REF, await store.readCommit(REF, generation), place)).close();
          for (const file of await readdir(place, { recursive: true, withFileTypes: true })) {
            const path = join(file.parentPath, file.name);
            if (file.isFile()) expect(await readFile(path, "utf8")).not.toBe(SECRET);
          }
        }
        await world.slots.remove(spec.labels.nonce);
        expect((await readdir(host)).toSorted()).toEqual(["of-the-host", "secret"]);
      });
    });
  },
);
