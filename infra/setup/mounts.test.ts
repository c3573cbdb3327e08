import { expect, it } from "vitest";
import { mountPointsBelow } from "./mounts.ts";

const line = (id: number, point: string): string =>
  `${id} 1 254:0 / ${point} rw,relatime shared:1 - ext4 /dev/vda rw`;

it("finds mount points below a directory, innermost first", () => {
  const mountInfo = [line(20, "/"), line(21, "/tmp/a"), line(22, "/tmp/a/b"), line(23, "/tmp/ab"), ""].join(
    "\n",
  );
  expect(mountPointsBelow("/tmp/a", mountInfo)).toEqual(["/tmp/a/b", "/tmp/a"]);
});

it("decodes what the kernel escapes in a path", () => {
  expect(mountPointsBelow("/tmp/a b", line(20, "/tmp/a\\040b/c\\134d"))).toEqual(["/tmp/a b/c\\d"]);
});
