import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { parseMountInfo } from "../mount-info.ts";
import { foreseeJoin } from "./cgroup-files.ts";

const ownGroups = () => readFile("/proc/self/cgroup", "utf8");

describe("foreseeJoin", () => {
  it("leaves this process where it is, in whatever hierarchy there is", async () => {
    const before = await ownGroups();
    const mounts = parseMountInfo(await readFile("/proc/self/mountinfo", "utf8"));
    for (const { mountPoint, superOptions, type } of mounts) {
      const controller = ["memory", "pids", "cpu", "freezer"].find((name) => superOptions.includes(name));
      if (type === "cgroup2") await foreseeJoin(mountPoint, "");
      else if (type === "cgroup" && controller !== undefined) await foreseeJoin(mountPoint, controller);
    }
    expect(await ownGroups()).toBe(before);
  });

  it.each(["pids", "", "no-controller"])("is nothing where the group is not in sight (%j)", async (name) => {
    await foreseeJoin("/nowhere", name);
  });
});
