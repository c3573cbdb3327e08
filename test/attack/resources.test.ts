import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SandboxLimits } from "@longshore/sandbox";
import { describe, expect, test } from "vitest";
import { unmountBelow } from "../../infra/setup/mounts.ts";
import { LIMITS, World } from "../conformance/sandbox/world.ts";
import { shareMounts } from "../support/share-mounts.ts";
import { TAKEN } from "./scripts.ts";
import { attacked } from "./weakened.ts";

const MIB = 1024 ** 2;
const QUOTA = { bytes: 8 * MIB, files: 100 };

interface Bomb {
  /** Prints that it has taken more than it should get. */
  readonly command: readonly string[];
  /** Under which it gets it. */
  readonly weakened: Partial<SandboxLimits>;
}

/** Holds what it takes until it has all that it wants. */
const bombs: Readonly<Record<string, Bomb>> = {
  "memory, in one process": {
    command: ["node", "-e", taking(600)],
    weakened: { memoryBytes: 1024 * MIB },
  },
  "memory, in many processes": {
    // A limit for each process alone would let all of them have it.
    command: ["sh", "-c", `for i in 1 2 3 4; do node -e '${taking(150)}' | cat & done; wait`],
    weakened: { memoryBytes: 1024 * MIB },
  },
  "memory, as files in /tmp and /dev/shm": {
    command: [
      "sh",
      "-c",
      `head -c ${150 * MIB} /dev/zero > /tmp/f; head -c ${150 * MIB} /dev/zero > /dev/shm/f
        [ $(cat /tmp/f /dev/shm/f | wc -c) -ge ${300 * MIB} ] && echo ${TAKEN}`,
    ],
    weakened: { memoryBytes: 1024 * MIB, tmpBytes: 200 * MIB, shmBytes: 200 * MIB },
  },
  descriptors: {
    command: [
      "node",
      "-e",
      `for (let i = 0; i < 6000; i++) require("node:fs").openSync("/dev/null"); console.log("${TAKEN}")`,
    ],
    weakened: { openFiles: 8192 },
  },
};

/** Takes so many MiB, tells when it has them, and holds them until the others have theirs. */
function taking(mib: number): string {
  return `const all = []; for (let i = 0; i < ${mib}; i++) all.push(Buffer.alloc(${MIB}, 1)); console.log("${TAKEN}"); setTimeout(() => {}, 3000)`;
}

describe.each(attacked)("$name", (platform) => {
  async function output(command: readonly string[], change: Partial<SandboxLimits>): Promise<string> {
    const world = await World.open(platform);
    const sandbox = await world.start(command, { limits: { ...LIMITS, ...change } });
    let stdout = "";
    for await (const chunk of sandbox.stdout) stdout += chunk;
    await world.close();
    return stdout;
  }

  test.each(Object.entries(bombs))("%s: is not had, but where the limit is higher", async (name, bomb) => {
    const got = async (change: Partial<SandboxLimits>) =>
      (await output(bomb.command, change)).split("\n").filter((line) => line === TAKEN).length;
    // Of four processes that want 150 MiB each, one or two may have had theirs before the kernel chose whom to kill.
    const all = name === "memory, in many processes" ? 4 : 1;
    expect(await got({})).toBeLessThan(all);
    expect(await got(bomb.weakened)).toBe(all);
  });

  test("processes: a fork bomb gets no more than the limit, but where it is higher", async ({ skip }) => {
    skip(platform.name === "docker runsc", "1,024 are its own threads' at least");
    const script =
      'for i in $(seq 300); do sleep 30 & done 2> /dev/null; ls /proc | grep -c "^[0-9]"; kill -9 -1';
    expect(Number(await output(["sh", "-c", script], {}))).toBeLessThanOrEqual(LIMITS.pids + 2);
    expect(Number(await output(["sh", "-c", script], { pids: 1_000 }))).toBeGreaterThan(300);
  });

  test("the disk: neither bytes nor files beyond the quota, but where there is none", async () => {
    const runDirectory = await mkdtemp(join(tmpdir(), "longshore-attack-"));
    await chmod(runDirectory, 0o711);
    await shareMounts(runDirectory);
    const inside = join(runDirectory, "run");
    await mkdir(inside);
    const world = await World.open(platform, inside);
    const script = `mkdir deep; touch $(seq 1000) 2> /dev/null; ls | wc -l; rm [0-9]*
      cat /dev/zero > deep/one 2> /dev/null; cat /dev/zero > two 2> /dev/null; cat deep/one two | wc -c`;
    const taken = async (quota: typeof QUOTA | null) => {
      const [labels, user] = [world.labels(), await world.users.acquire()];
      const slotDirectory = await world.slot(labels.nonce, user, quota);
      const limits = { ...LIMITS, fileBytes: 32 * MIB };
      const { stdout } = await world.run(script, { labels, user, slotDirectory, limits });
      return stdout.trim().split("\n").map(Number) as [number, number];
    };
    const [files, bytes] = await taken(QUOTA);
    expect(files).toBeGreaterThan(QUOTA.files);
    expect(bytes).toBeGreaterThan(QUOTA.bytes);
    expect(files).toBeLessThan(3 * QUOTA.files);
    expect(bytes).toBeLessThan(QUOTA.bytes + 20 * MIB);
    expect(await taken(null)).toEqual([1_001, 64 * MIB]);
    await world.close();
    await unmountBelow(runDirectory);
    await rm(runDirectory, { recursive: true });
  });
});
