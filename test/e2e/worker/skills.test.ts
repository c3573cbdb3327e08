import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { openBackend } from "@longshore/session-store";
import { describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import { Fleet } from "../../support/fleet.ts";
import { ready, took } from "./describe-warm.ts";

const pdf = (version: string) => ({ id: "pdf", version, target: "/session/home/.claude/skills/pdf" });

/** As an operator puts it there: plain objects of any tool. */
async function putSkill(fleet: Fleet, path: string, content: string): Promise<void> {
  const file = join(fleet.directory, "store/skills", path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, content);
}

async function ask(api: Api, conversation: string, id: string, text: string): Promise<string> {
  const answer = await api.ask(conversation, id, text);
  expect(answer.state).toBe("answered");
  return (answer.replies ?? []).map((reply) => reply.text).join();
}

describe.each(["docker", "bwrap"] as const)("skills, %s", (runtime) => {
  it("are where the agent looks, can't be changed, are no part of the session; another version is there from the next turn on", async () => {
    await using fleet = await Fleet.start({ runtime, agent: { skills: [pdf("1")], linger: "60s" } });
    await putSkill(fleet, "pdf/1/SKILL.md", "how to read\n");
    await putSkill(fleet, "pdf/1/scripts/run", "#!/bin/sh\necho ran\n");
    await putSkill(fleet, "pdf/2/SKILL.md", "how to write\n");
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    const use =
      "$ cd ~/.claude/skills; cat pdf/SKILL.md; pdf/scripts/run; (echo x > pdf/SKILL.md) 2>&1 | grep -o Read-only; rm -rf pdf/scripts 2>/dev/null; echo own > own; ls pdf";
    expect(await ask(api, "c", "1", use)).toBe("how to read\nran\nRead-only\nSKILL.md\nscripts\n");

    await fleet.configure({ skills: [pdf("2")] });
    const seen = worker.lines.length;
    worker.signal("SIGHUP");
    await worker.line(({ msg }) => /configuration/.test(String(msg)), seen);
    expect(await ask(api, "c", "2", "$ cd ~/.claude/skills; cat pdf/*; cat own")).toBe("how to write\nown\n");

    const { sessionId } = await api.send("c", "3", "$ true");
    const { files } = await api.json<{ files: { path: string }[] }>(
      "GET",
      `/v1/sessions/${sessionId}/files?under=home/.claude`,
    );
    expect(files.map(({ path }) => path)).toContain("home/.claude/skills/own");
    expect(files.filter(({ path }) => path.includes("pdf"))).toEqual([]);
  });

  it("are in a warm sandbox, also for a session that has files there", async () => {
    await using fleet = await Fleet.start({ runtime, agent: { warm: 1, linger: "0s" } });
    await putSkill(fleet, "pdf/1/SKILL.md", "how to read\n");
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    await ready(worker);
    // A session of before there was a skill has none of the directories that it is in.
    expect(await ask(api, "c", "before", "$ ls -A ~ | grep -c claude")).toBe("0\n\n[exit code 1]");
    await ready(worker, 2);
    await fleet.configure({ skills: [pdf("1")] });
    worker.signal("SIGHUP");
    for (const [index, expected] of ["how to read\n", "how to read\nown\n"].entries()) {
      await ready(worker, index + 3);
      const text =
        "$ cat ~/.claude/skills/pdf/*; cat ~/.claude/skills/own 2>/dev/null || echo own > ~/.claude/skills/own";
      expect(await ask(api, "c", String(index), text)).toBe(expected);
    }
    expect(took(worker)).toBe(3);
  });
});

describe("a skill that can't be shown keeps turns waiting until somebody mends it", () => {
  it("for there is no such version", async () => {
    await using fleet = await Fleet.start({ agent: { skills: [pdf("1")], retry: { attempts: 1 } } });
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    const { messageId } = await api.send("c", "1", "$ cat ~/.claude/skills/pdf/*");
    await worker.line(({ err }) => (err as { code?: string } | undefined)?.code === "SKILL_MISSING");
    await putSkill(fleet, "pdf/1/SKILL.md", "at last\n");
    await expect.poll(async () => (await api.message(messageId)).state).toBe("answered");
  });

  it.each(["../../escaped", "a//b", "a/./b", "SKILL.md/as-directory"])(
    "for its files can't be those of one directory: %s",
    async (path) => {
      await using fleet = await Fleet.start({
        store: "s3",
        agent: { skills: [pdf("1")], retry: { attempts: 1 } },
      });
      const variables = fleet.environment as Readonly<Record<string, string>>;
      Object.assign(process.env, {
        AWS_ACCESS_KEY_ID: variables.AWS_ACCESS_KEY_ID,
        AWS_SECRET_ACCESS_KEY: variables.AWS_SECRET_ACCESS_KEY,
      });
      const backend = openBackend(variables.OBJECT_STORE_URL ?? "", {
        endpoint: variables.S3_ENDPOINT ?? "",
        forcePathStyle: true,
        region: variables.AWS_REGION ?? "",
      });
      await backend.putIfAbsent("skills/pdf/1/SKILL.md", Buffer.from("x"));
      await backend.putIfAbsent(`skills/pdf/1/${path}`, Buffer.from("x"));
      backend.close();
      const { api } = await fleet.startDispatcher();
      const worker = await fleet.startWorker();
      await api.send("c", "1", "$ ls ~/.claude/skills/pdf");
      await worker.line(({ err }) => (err as { code?: string } | undefined)?.code === "SKILL_REFUSED");
      await rm(join(fleet.directory, "run/skills/pdf"), { recursive: true, force: true });
    },
  );
});
