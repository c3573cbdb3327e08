import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { errnoOf } from "@longshore/shared";
import { parseMountInfo } from "../mount-info.ts";
import type { CgroupAbilities, CgroupTree } from "./cgroup.ts";
import { type CgroupV1Mounts, CgroupV1Tree } from "./cgroup-v1.ts";
import { CgroupV2Tree } from "./cgroup-v2.ts";

const CONTROLLERS = [
  "memory",
  "pids",
  "cpu",
  "freezer",
] as const satisfies readonly (keyof CgroupAbilities)[];
/** Where the worker goes when its own group must get limited children. */
const WORKER_GROUP = "longshore-worker";
const ENABLE = ["+memory", "+pids", "+cpu"];

/**
 * Finds the control groups that this process may write: version 1 where its controllers are, else
 * version 2 below its own group. Undefined where there are none.
 */
export function detectCgroups(): CgroupTree | undefined {
  const mounts = parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
  const v1: Partial<Record<keyof CgroupAbilities, string>> = {};
  for (const mount of mounts) {
    if (mount.type !== "cgroup") continue;
    for (const controller of CONTROLLERS) {
      if (mount.superOptions.includes(controller) && isWritable(mount.mountPoint))
        v1[controller] = mount.mountPoint;
    }
  }
  const found: CgroupV1Mounts = v1;
  if (found.memory !== undefined || found.pids !== undefined) return new CgroupV1Tree(found);

  const unified = mounts.find((mount) => mount.type === "cgroup2");
  if (unified === undefined || !isWritable(unified.mountPoint)) return undefined;
  const own = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "/";
  return detectV2(unified.mountPoint, own);
}

/** Enables the controllers for the children of the worker's group, after moving its processes out of the way. */
function detectV2(mountPoint: string, own: string): CgroupTree | undefined {
  const group = join(mountPoint, own);
  const parent = basename(group) === WORKER_GROUP ? dirname(group) : group;
  const control = join(parent, "cgroup.subtree_control");
  if (!isWritable(control)) return undefined;
  for (const controller of ENABLE) {
    try {
      writeFileSync(control, controller);
    } catch (error) {
      if (errnoOf(error) !== "EBUSY") continue;
      try {
        moveProcesses(parent, join(parent, WORKER_GROUP));
        writeFileSync(control, controller);
      } catch {
        // Not ours to move, or not delegated: the controller stays off and is reported as missing.
      }
    }
  }
  const controllers = readFileSync(control, "utf8").trim().split(" ");
  return new CgroupV2Tree(mountPoint, parent, controllers);
}

function moveProcesses(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const pid of readFileSync(join(from, "cgroup.procs"), "utf8").split("\n").filter(Boolean)) {
    try {
      writeFileSync(join(to, "cgroup.procs"), pid);
    } catch (error) {
      if (errnoOf(error) !== "ESRCH") throw error;
    }
  }
}

function isWritable(path: string): boolean {
  if (!existsSync(path)) return false;
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
