import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";
import { Operator } from "../../support/operator.ts";

const SHOW =
  "$ cd; find . -not -path './.agent-shell*' -type f | sort | xargs head -n 1; stat -c '%a %n' run";

describe("the home files of a definition", () => {
  it("are in a new session's HOME, are its own from then on, and follow it", async () => {
    await using fleet = await Fleet.start({ agent: { home: "home-files", linger: "0s" } });
    const home = join(fleet.directory, "home-files");
    await mkdir(join(home, ".deep/er"), { recursive: true });
    await writeFile(join(home, ".deep/er/settings.json"), '{"first":true}\n');
    await writeFile(join(home, "run"), "#!/bin/sh\necho ran\n");
    await chmod(join(home, "run"), 0o755);
    const { api } = await fleet.startDispatcher();
    const first = await fleet.startWorker();
    const text = async (conversation: string, id: string, what: string) =>
      (await api.ask(conversation, id, what)).replies?.map((reply) => reply.text.trim()).join();
    const given = '==> ./.deep/er/settings.json <==\n{"first":true}\n\n==> ./run <==\n#!/bin/sh\n700 run';
    expect(await text("c", "1", SHOW)).toBe(given);
    expect(await text("c", "2", "$ ~/run; echo mine > ~/.deep/er/settings.json")).toBe("ran");

    // What the operator changes is for new sessions.
    await writeFile(join(home, ".deep/er/settings.json"), "second\n");
    await first.kill();
    await fleet.startWorker({ LONGSHORE_RUN_DIR: join(fleet.directory, "next") });
    expect(await text("c", "3", SHOW)).toBe(given.replace('{"first":true}', "mine"));
    expect(await text("other", "1", SHOW)).toBe(given.replace('{"first":true}', "second"));
  });

  it("are there again when a first turn that failed is tried again, and for a session that began with an upload", async () => {
    await using fleet = await Fleet.start({
      agent: { home: "home-files", retry: { attempts: 2, backoff: "10ms" }, checkpoint: "100ms" },
    });
    const home = join(fleet.directory, "home-files");
    await mkdir(home);
    await writeFile(join(home, "a"), "a\n");
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    const { messageId } = await api.send("c", "1", "$ rm ~/a; echo b > ~/b; sleep 0.4; kill -9 $PPID");
    await worker.line(({ msg }) => msg === "turn failed");
    expect((await api.ask("c", "1", "the same")).state).toBe("dead");
    expect((await api.message(messageId)).state).toBe("dead");
    expect((await api.ask("c", "2", "$ cat ~/*")).replies?.[0]?.text).toBe("a\n");

    await using operator = new Operator(fleet);
    await operator.upload("u", "1", [{ path: "workspace/x", content: "x" }]);
    expect((await api.ask("u", "2", "$ cat ~/a x")).replies?.[0]?.text).toBe("a\nx");
  });

  it("that can't be taken keep turns waiting, with what is wrong, until somebody mends it", async () => {
    await using fleet = await Fleet.start({ agent: { home: "home-files", retry: { attempts: 1 } } });
    const home = join(fleet.directory, "home-files");
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    const problem = (what: string) =>
      worker.line(({ err }) => {
        const { code, message = "" } = (err ?? {}) as { code?: string; message?: string };
        return code === "HOME_UNREADABLE" && message.includes(what);
      });
    const { messageId } = await api.send("c", "1", "hello");
    await problem("ENOENT");
    await mkdir(home);
    await symlink("/etc/shadow", join(home, "link"));
    await problem("link is neither");
    await rm(join(home, "link"));
    await expect.poll(async () => (await api.message(messageId)).state).toBe("answered");
  });
});

it("an agent knows its definition's time zone", async () => {
  await using fleet = await Fleet.start({ agent: { timeZone: "Asia/Kolkata" } });
  const { api } = await fleet.startDispatcher();
  await fleet.startWorker();
  const node = "/usr/local/bin/node -p 'new Date(0).getTimezoneOffset()'";
  const answer = await api.ask("c", "1", `$ echo $TZ; ${node}`);
  expect(answer.replies?.[0]?.text).toBe("Asia/Kolkata\n-330\n");
});
