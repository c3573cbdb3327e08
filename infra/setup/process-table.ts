import { readdir, readFile } from "node:fs/promises";

/**
 * When a process started, in the kernel's ticks since boot: together with its id it names a process for
 * good, since ids are used again. Null when there is no such process.
 */
export async function processStartTime(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // The second field, the program's name in parentheses, may hold spaces and parentheses itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

/** The ids of the processes whose command line holds a text, this process excluded. */
export async function processesMentioning(text: string): Promise<number[]> {
  return await processesWhere("cmdline", (commandLine) => commandLine.includes(text));
}

/** The ids of the processes that were started with a variable of this value, and of their descendants. */
export async function processesWithVariable(name: string, value: string): Promise<number[]> {
  return await processesWhere("environ", (variables) => variables.split("\0").includes(`${name}=${value}`));
}

async function processesWhere(
  file: "cmdline" | "environ",
  matches: (content: string) => boolean,
): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) {
      continue;
    }
    try {
      if (matches(await readFile(`/proc/${pid}/${file}`, "utf8"))) {
        found.push(pid);
      }
    } catch {
      // It ended between the listing and the look at it, or is another user's.
    }
  }
  return found;
}
