import { expect, test } from "vitest";
import { parseMountInfo } from "./mount-info.ts";

const TABLE = [
  "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
  "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct",
  "40 27 254:1 /volumes/one /var/lib/long\\040shore rw,relatime master:1 - xfs /dev/vdb rw",
  "",
].join("\n");

test("a mount table is read, with optional fields and escaped names", () => {
  const [root, cpu, volume] = parseMountInfo(TABLE);
  expect(root).toMatchObject({ mountPoint: "/", type: "ext4", propagation: [] });
  expect(cpu).toMatchObject({
    type: "cgroup",
    propagation: ["shared:5"],
    superOptions: ["rw", "cpu", "cpuacct"],
  });
  expect(volume).toMatchObject({ mountPoint: "/var/lib/long shore", type: "xfs" });
});
