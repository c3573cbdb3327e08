// Commits or restores one session and says how many milliseconds that took: for time and memory of a whole process.
import { mkdirSync } from "node:fs";
import { BenchServer } from "./bench-server.ts";
import { benchSession, type SessionWork, timeCommit, timeHydrate } from "./session-runs.ts";
import { moveInto } from "./trees.ts";

const work = JSON.parse(process.argv[2] ?? "") as SessionWork;
await using opened = new BenchServer(work.prefix).openStore();
console.log(await milliseconds());

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
