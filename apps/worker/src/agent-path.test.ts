import { describe, expect, it } from "vitest";
import { agentPath } from "./agent-path.ts";

describe("a path that an agent names", () => {
  it.each(["a/b.txt", "/a/b.txt", "/session/workspace/a/b.txt", "./a//b.txt", "a/c/../b.txt", "//a/b.txt"])(
    "%s is below the workspace",
    (path) => {
      expect(agentPath(path)).toBe("workspace/a/b.txt");
    },
  );

  it.each([
    "..",
    "../home/.bashrc",
    "/session/workspace/../home/x",
    "",
    "/",
    ".",
    "/session/workspace",
    "a/../..",
    "a\0b",
  ])("%j leaves it", (path) => {
    expect(agentPath(path)).toBeUndefined();
  });

  it("with a leading slash is no path of the host", () => {
    expect(agentPath("/etc/passwd")).toBe("workspace/etc/passwd");
    expect(agentPath("/session/home/x")).toBe("workspace/session/home/x");
  });
});
