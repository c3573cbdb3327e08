// Commits or restores one session and says how many milliseconds that took: for time and memory of a whole process.
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { BenchServer } from "./bench-server.ts";
import { benchSession, type SessionWork, timeCommit, timeHydrate } from "./session-runs.ts";
import { moveInto } from "./trees.ts";

const work = JSON.parse(process.argv[2] ?? "") as SessionWork;
await using opened = new BenchServer(work.prefix).openStore();
if (work.warmUpWith !== undefined) await warmUp(work.warmUpWith);
console.log(await milliseconds());

/** What a worker has done long before: commits and restores a small session, in the same threads and connections. */
async function warmUp(tree: string): Promise<void> {
  const ref = benchSession(`warm-up-${process.pid}`);
  const directories = ["from", "to"].map((name) => `${work.directory}-warm-up-${name}`);
  const [from = "", to = ""] = directories;
  mkdirSync(from);
  {
    using copy = await opened.store.hydrate(ref, undefined, from);
    cpSync(tree, from, { recursive: true });
    await timeCommit(copy);
  }
  (await timeHydrate(opened.store, ref, to)).copy.close();
  for (const directory of directories) rmSync(directory, { recursive: true });
}

async function milliseconds(): Promise<number> {
  const ref = benchSession(work.sessionId);
  if (work.what === "restore") {
    const { copy, ...timed } = await timeHydrate(opened.store, ref, work.directory);
    copy.close();
    return timed.milliseconds;
  }
  mkdirSync(work.directory, { recursive: true });
  using copy = await opened.store.hydrate(ref, undefined, work.directory);
  if (work.from !== undefined) moveInto(work.from, work.directory);
  return await timeCommit(copy);
}
