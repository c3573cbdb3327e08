import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

describe.each(["docker", "bwrap"] as const)("an access policy, %s", (runtime) => {
  it("is in force in every activation, over whatever the agent left there, and hides nothing from the fleet", async () => {
    await using fleet = await Fleet.start({
      runtime,
      access: { "/**": "r--", "~/private/": "r--" },
      agent: {
        ...{ home: "home-files", linger: "0s" },
        access: {
          "/session/home/private/": "---",
          "/session/workspace/notes": "r--",
          "/usr/share/perl5/": "---",
        },
      },
    });
    await mkdir(join(fleet.directory, "home-files/private"), { recursive: true });
    await writeFile(join(fleet.directory, "home-files/private/key"), "of the operator\n");
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    const told = await worker.line(({ msg }) => /executing what is there/.test(String(msg)));
    expect(told.paths).toEqual(["/", "/session/workspace/notes"]);
    const attack = `$ cat ~/private/key 2>/dev/null || echo hidden
      (echo x > notes/made) 2>/dev/null || echo kept
      mv ~/private ~/public 2>/dev/null || echo there
      ls /usr/share/perl5 2>/dev/null || echo nothing`;
    const ask = async (id: string, text: string) => (await api.ask("c", id, text)).replies?.[0]?.text;
    expect(await ask("1", attack)).toBe("hidden\nkept\nthere\nnothing\n");
    const { sessionId } = await api.send("c", "1", attack);
    expect(await api.file(sessionId, "home/private/key")).toBe("of the operator\n");
    await api.request("PUT", `/v1/sessions/${sessionId}/files/workspace/notes/manual`, 42);
    await fleet.startWorker();
    await worker.stop();
    expect(
      await ask(
        "2",
        `$ cat notes/manual; echo; rm -f notes/manual 2>/dev/null; ls notes; cat ~/private/key 2>&1 | grep -c operator; true`,
      ),
    ).toBe("42\nmanual\n0\n");
  });
});
