import { expect, test } from "vitest";
import { locate, parseMountInfo } from "./mount-info.ts";

const TABLE = [
  "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
  "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct",
  "40 27 254:1 /volumes/one /var/lib/long\\040shore rw,relatime master:1 - xfs /dev/vdb rw",
  "",
].join("\n");

test("a mount table is read, with optional fields and escaped names", () => {
  const [root, cpu, volume] = parseMountInfo(TABLE);
  expect(root).toMatchObject({ device: "254:0", root: "/", mountPoint: "/", type: "ext4" });
  expect(cpu).toMatchObject({ type: "cgroup", superOptions: ["rw", "cpu", "cpuacct"] });
  expect(volume).toMatchObject({ root: "/volumes/one", mountPoint: "/var/lib/long shore", type: "xfs" });
});

test("a path is found in the file system that holds it", () => {
  const mounts = parseMountInfo(TABLE);
  expect(locate(mounts, "/run/x")).toEqual({ device: "254:0", path: "/run/x" });
  expect(locate(mounts, "/var/lib/long shore/workers")).toEqual({
    device: "254:1",
    path: "/volumes/one/workers",
  });
  expect(locate(mounts, "/var/lib/long shoreman")).toEqual({
    device: "254:0",
    path: "/var/lib/long shoreman",
  });
});
