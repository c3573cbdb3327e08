import { chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { SandboxSpec } from "@longshore/sandbox";
import { accessRules } from "@longshore/shared";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { platforms } from "./platforms.ts";
import { World } from "./world.ts";

describe.each(platforms)("$name", (platform) => {
  let world: World;
  beforeAll(async () => {
    world = await World.open(platform);
  });
  afterAll(() => world.close());

  /** Runs a script where its session has these files and the policy says so. */
  async function run(access: Record<string, string>, files: readonly string[], script: string) {
    const made = await world.spec([]);
    const { labels, user, slotDirectory } = made;
    for (const file of files) {
      const names = file.split("/");
      for (let depth = 1; depth < names.length; depth++) {
        const directory = join(slotDirectory, ...names.slice(0, depth));
        await mkdir(directory, { recursive: true });
        await chown(directory, user.uid, user.gid);
      }
      await writeFile(join(slotDirectory, file), `content of ${file}`);
      await chown(join(slotDirectory, file), user.uid, user.gid);
    }
    const change: Partial<SandboxSpec> = { labels, user, slotDirectory, access: accessRules(access) };
    const { stdout } = await world.run(script, change);
    return stdout.trim().split("\n");
  }

  test("what is hidden in the root can't be read, listed or found by a link; what is not there changes nothing", async () => {
    const said = await run(
      {
        "/usr/share/perl5/": "---",
        "/etc/os-release": "---",
        "/lib/terminfo/": "---",
        "/opt/nothing/here/": "---",
      },
      [],
      `ls /usr/share/perl5 2>/dev/null || echo no list
       cat /etc/os-release 2>/dev/null || echo no release
       cat /usr/lib/os-release 2>/dev/null || echo no target
       ls /usr/lib/terminfo 2>/dev/null || echo no directory
       ls /opt/nothing/here/x 2>/dev/null || echo nothing
       [ -r /usr/share/zsh ] && [ -x /usr/bin/env ] && echo others`,
    );
    expect(said).toEqual(["no list", "no release", "no target", "no directory", "nothing", "others"]);
  });

  test("of the host's own files, what a link leads to and the link are hidden alike", async ({ skip }) => {
    skip(!platform.name.startsWith("bwrap"), "no container shows files of the host");
    const change = {
      rootfs: "host",
      access: accessRules({ "/etc/os-release": "---", "/usr/share/zoneinfo/": "---" }),
    };
    const script = `for file in /etc/os-release /usr/lib/os-release /etc/localtime
      do cat $file > /dev/null 2>&1 && echo read $file; done; [ -r /etc/nsswitch.conf ] && echo others`;
    const { stdout } = await world.run(script, change);
    expect(stdout).toBe("others\n");
    const { stdout: shown } = await world.run(script, { rootfs: "host" });
    expect(shown).toContain("read /etc/os-release\nread /usr/lib/os-release\n");
  });

  test("below a writable directory one is read-only and one hidden, and nobody moves them to where no rule is", async () => {
    const files = ["workspace/a/b/kept", "workspace/a/secret/key", "workspace/a/other"];
    const said = await run(
      { "/session/workspace/a/b": "r--", "/session/workspace/a/secret/": "---" },
      files,
      `cat a/b/kept; echo
       (echo x > a/b/kept) 2>/dev/null || echo not written
       rm -f a/b/kept 2>/dev/null; [ -e a/b/kept ] && echo not removed
       (echo x > a/b/new) 2>/dev/null || echo not made
       chmod 777 a/b 2>/dev/null || echo not changed
       cat a/secret/key 2>/dev/null || echo not read
       ls a/secret 2>/dev/null || echo not listed
       chmod 700 a/secret 2>/dev/null || echo not opened
       mv a moved 2>/dev/null || echo not moved
       mv /session/workspace /session/elsewhere 2>/dev/null || echo nor above
       mv a/b c 2>/dev/null; [ -e a/b/kept ] && echo nor itself
       echo new > a/other; cat a/other`,
    );
    expect(said).toEqual([
      ...["content of workspace/a/b/kept", "not written", "not removed", "not made", "not changed"],
      ...["not read", "not listed", "not opened", "not moved", "nor above", "nor itself", "new"],
    ]);
  });

  test("the most specific rule is in force, in a session that is read-only else", async () => {
    const said = await run(
      {
        "/session/": "r--",
        "/session/workspace/": "rwx",
        "/session/workspace/a/": "r--",
        "/session/workspace/a/b/": "rw-",
      },
      ["workspace/a/b/file", "workspace/a/file", "home/file"],
      `(echo x > /session/new) 2>/dev/null || echo session
       (echo x > ~/file) 2>/dev/null || echo home
       (echo x > a/file) 2>/dev/null || echo a
       echo b > a/b/file && cat a/b/file
       echo workspace > file && cat file`,
    );
    expect(said).toEqual(["session", "home", "a", "b", "workspace"]);
  });

  test("what is in /tmp is executed, unless a rule says no and the runtime can", async () => {
    const script = `printf '#!/bin/sh\necho ran' > /tmp/program; chmod +x /tmp/program; /tmp/program 2>/dev/null || echo refused`;
    expect(await run({}, [], script)).toEqual(["ran"]);
    const canForbid = platform.name.startsWith("docker");
    expect(await run({ "/tmp/": "rw-" }, [], script)).toEqual([canForbid ? "refused" : "ran"]);
  });

  test("a file that is hidden as a directory, or the other way, starts nothing", async () => {
    const code = platform.name.startsWith("bwrap") ? "SANDBOX_SPEC_INVALID" : "SANDBOX_START_FAILED";
    for (const pattern of ["/etc/os-release/", "/usr/share/perl5"])
      await expect(run({ [pattern]: "---" }, [], "echo started"), pattern).rejects.toMatchObject({ code });
  });
});
