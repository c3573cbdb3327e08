import { readFile } from "node:fs/promises";
import { processesOf } from "./world.ts";

const TICKS_PER_SECOND = 100;

/** Processor time that the living processes of a user have used. */
export async function cpuSecondsOf(uid: number): Promise<number> {
  let ticks = 0;
  for (const pid of await processesOf(uid)) {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}
