import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Fleet } from "./fleet.ts";

/** The directory of the one session that a fleet's worker has now, as the host sees it. */
export async function slotOf(
  fleet: Fleet,
  runDirectory = fleet.environment.LONGSHORE_RUN_DIR as string,
): Promise<string> {
  const found: string[] = [];
  for (const worker of await readdir(join(runDirectory, "workers"))) {
    const slots = join(runDirectory, "workers", worker, "slots");
    for (const slot of await readdir(slots).catch(() => [])) {
      if (!slot.startsWith(".")) found.push(join(slots, slot));
    }
  }
  if (found.length !== 1) throw new Error(`${found.length} slots instead of one: ${found.join(", ")}`);
  return found[0] as string;
}
