import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { removeControlGroups } from "./control-groups.ts";
import { killMentioning } from "./kill-processes.ts";
import { unmountBelow } from "./mounts.ts";
import { asRoot, isRoot } from "./privilege.ts";
import { processStartTime } from "./process-table.ts";
import { run } from "./run-command.ts";

const namePrefix = "longshore-setup-";
const ownerFile = "owner";

/**
 * A directory below the system's temporary directory for the data of services, with the process that
 * made it as its owner. It is removed with everything mounted below it; one whose owner died without
 * removing it (SIGKILL, a lost machine's kept disk) is removed by the next one that is made.
 */
export class ScratchDirectory {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Makes one, after having removed those whose owners are gone. */
  static async create(): Promise<ScratchDirectory> {
    await removeAbandoned();
    const path = await mkdtemp(join(tmpdir(), namePrefix));
    // Sandboxes run as users of their own, who have to reach what is theirs below it; services keep
    // theirs closed.
    await chmod(path, 0o711);
    await writeFile(join(path, ownerFile), `${process.pid} ${await processStartTime(process.pid)}`);
    return new ScratchDirectory(path);
  }

  async remove(): Promise<void> {
    await removeTree(this.path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }
}

async function removeAbandoned(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(namePrefix)) {
      continue;
    }
    const path = join(tmpdir(), name);
    const owner = await readFile(join(path, ownerFile), "utf8").catch(() => null);
    // Without an owner's note it is being made right now, or is somebody else's.
    if (owner === null) {
      continue;
    }
    const [pid, startTime] = owner.split(" ");
    if ((await processStartTime(Number(pid))) !== startTime) {
      // The kernel ended the owner's services with it; an engine may have failed to end its containers.
      await killMentioning(`${path}/`);
      await removeTree(path);
    }
  }
}

async function removeTree(path: string): Promise<void> {
  await unmountBelow(path);
  // An engine below it names its control groups after it.
  await removeControlGroups(basename(path));
  if (isRoot()) {
    await rm(path, { recursive: true, force: true });
  } else {
    await run(asRoot(["rm", "-rf", "--", path]));
  }
}
