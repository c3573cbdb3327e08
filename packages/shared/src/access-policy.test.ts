import { describe, expect, it } from "vitest";
import { accessProblems, accessRules, executableAnyway, layeredAccess } from "./access-policy.ts";

const problems = (access: Record<string, string>, targets: readonly string[] = [], isWarm = false) =>
  accessProblems(access, targets, isWarm).map(({ pattern, reason }) => `${pattern}: ${reason}`);

describe("an access policy", () => {
  it("takes ~, a slash at the end and /** for the same, a path elsewhere for a file, and sorts broad before narrow", () => {
    const access = {
      "/session/workspace/a/b": "---",
      "/etc/token": "---",
      "~/x/": "r--",
      "/session/workspace/a": "r-x",
      "/**": "r-x",
    };
    expect(accessRules(access).map(({ path, isDirectory }) => `${path} ${isDirectory}`)).toEqual([
      " true",
      "/etc/token false",
      "/session/home/x true",
      "/session/workspace/a true",
      "/session/workspace/a/b true",
    ]);
    expect(accessRules({ "/opt/x/": "r--" })).toEqual(accessRules({ "/opt/x/**": "r--" }));
    expect(accessRules({ "~": "rw-" })).toEqual(accessRules({ "/session/home/**": "rw-" }));
  });

  it("has an agent's own pattern in force where it means the same path", () => {
    const all = { "~/": "r--", "/opt/keys/": "---" };
    expect(layeredAccess(all, { "/session/home/**": "rwx" })).toEqual({
      "/opt/keys/": "---",
      "/session/home/**": "rwx",
    });
  });

  it("refuses what is no pattern and what mounts can't enforce, with what is allowed", () => {
    const refused: [Record<string, string>, RegExp][] = [
      [{ "session/x": "r--" }, /from \/ or ~/],
      [{ "/opt/*/keys": "---" }, /wildcard nowhere but/],
      [{ "/opt/**/keys": "---" }, /wildcard nowhere but/],
      [{ "/opt/../etc/": "---" }, /without/],
      [{ "/opt//x": "---" }, /without/],
      [{ "/session/workspace/x": "-w-" }, /unread/],
      [{ "/session/workspace/x": "--x" }, /unread/],
      [{ "/**": "---" }, /nothing could run/],
      [{ "/**": "rwx" }, /never writable/],
      [{ "/proc/": "---" }, /the sandbox's own/],
      [{ "/.longshore/init": "---" }, /the sandbox's own/],
      [{ "/tmp/": "r--" }, /rwx or rw-/],
      [{ "/tmp/x/": "---" }, /rwx or rw-/],
      [{ "/var/cache/": "rwx" }, /only \/session and \/tmp/],
      [{ "/opt/": "---", "/opt/tools/": "r-x" }, /is hidden with all/],
      [{ "/session/": "---" }, /working directory/],
      [{ "/session/workspace/": "---" }, /working directory/],
      [{ "~/": "r--", "/session/home": "rwx" }, /another one is for \/session\/home/],
    ];
    for (const [access, reason] of refused)
      expect(problems(access).join("\n"), JSON.stringify(access)).toMatch(reason);
  });

  it("leaves mounts, volumes and skills their own modes, and warm sandboxes no rules for sessions that are not there", () => {
    const target = "/session/workspace/external/docs";
    expect(problems({ [target]: "r--" }, [target])).toHaveLength(1);
    expect(problems({ [`${target}/x`]: "---" }, [target])).toHaveLength(1);
    expect(problems({ "/session/workspace/external/": "---" }, [target])).toHaveLength(1);
    expect(problems({ "/session/workspace/external/": "r--" }, [target])).toEqual([]);
    expect(problems({ "~/x/": "r--" }, [], true).join()).toMatch(/warm/);
    expect(problems({ "/opt/keys/": "---", "/tmp/": "rw-" }, [], true)).toEqual([]);
  });

  it("takes the rest", () => {
    const access = {
      "/**": "r--",
      "/opt/": "---",
      "/opt/keys/": "---",
      "/session/": "r--",
      "/session/workspace/": "rwx",
      "/session/workspace/notes": "r--",
      "/session/workspace/notes/draft": "rw-",
      "~/private/": "---",
      "/etc/token": "---",
    };
    expect(problems(access)).toEqual([]);
  });

  it("tells where nothing forbids execution", () => {
    const access = { "/**": "r--", "/opt/": "---", "/tmp/": "rw-", "~": "rwx" };
    expect(executableAnyway({ access, runtime: "docker" })).toEqual(["/"]);
    expect(executableAnyway({ access, runtime: "auto" })).toEqual(["/", "/tmp"]);
  });
});
