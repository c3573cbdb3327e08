import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

/** Leaves something too large to travel in a commit record. */
const COUNT =
  "$ n=$(($(cat counter 2>/dev/null || echo 0) + 1)); echo $n > counter; head -c 300000 /dev/urandom > noise; echo turn $n";
/** How often a turn has to have failed before the store is mended: more often than a counted one may. */
const FAILURES = 5;

interface Generation {
  readonly generation: number;
  readonly kind: string;
}

let fleet: Fleet;
let api: Api;
let worker: AppProcess;

beforeEach(async () => {
  // Without the host's chunk cache, which would not notice.
  fleet = await Fleet.start({ store: "file", agent: { linger: "0s" }, worker: { chunkCache: "0B" } });
  [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
});
afterEach(() => fleet[Symbol.asyncDispose]());

async function packs(): Promise<string[]> {
  const store = join(fleet.directory, "store");
  const entries = await readdir(store, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.parentPath.includes("/pack"))
    .map(({ parentPath, name }) => join(parentPath, name));
}

/** Each breaks an object; what it gives mends it again. */
const damages: Readonly<Record<string, (path: string) => Promise<() => Promise<void>>>> = {
  "is missing": async (path) => {
    await rename(path, `${path}.away`);
    return () => rename(`${path}.away`, path);
  },
  "is cut off": async (path) => {
    const content = await readFile(path);
    await writeFile(path, content.subarray(0, content.length / 2));
    return () => writeFile(path, content);
  },
  "is corrupt": async (path) => {
    const content = await readFile(path);
    const corrupt = Buffer.from(content);
    for (let at = 1000; at < corrupt.length; at += 1000) corrupt[at] = (corrupt[at] as number) ^ 0xff;
    await writeFile(path, corrupt);
    return () => writeFile(path, content);
  },
};

it.each(Object.keys(damages))(
  "a session of which an object %s is not committed over (I4)",
  async (damage) => {
    await api.ask("c", "1", COUNT);
    const { sessionId } = await api.ask("c", "2", COUNT);
    const read = async () => {
      const { generations } = await api.json<{ generations: Generation[] }>(
        "GET",
        `/v1/sessions/${sessionId}/generations`,
      );
      return generations.map(({ generation }) => generation);
    };
    const before = await read();
    const mends = await Promise.all((await packs()).map((path) => damages[damage]?.(path)));
    expect(mends.length).toBeGreaterThan(0);

    let seen = worker.lines.length;
    const third = await api.send("c", "3", COUNT);
    for (let failures = 0; failures < FAILURES; failures++) {
      const failed = await worker.line(({ msg }) => msg === "turn failed", seen);
      expect(failed).toMatchObject({ kind: "innocent" });
      seen = worker.lines.indexOf(failed) + 1;
    }
    expect(await read()).toEqual(before);

    for (const mend of mends) await mend?.();
    const answered = await api.ask("c", "3", "known already");
    expect(answered).toMatchObject({ messageId: third.messageId, state: "answered", attempts: 0 });
    expect(answered.replies?.map(({ text }) => text.trim())).toEqual(["turn 3"]);
    expect(await api.file(sessionId, "workspace/counter")).toBe("3\n");
  },
);
