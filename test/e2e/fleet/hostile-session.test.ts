import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api, ApiMessage } from "../../support/api.ts";
import { Fleet } from "../../support/fleet.ts";

const SECRET = "what no session may see";

/** What an agent may do to its session directory, as shell in `workspace/`; HOST is a directory of the host. */
const attacks: Readonly<Record<string, string>> = {
  "inbox is a link": "rm -rf ../inbox; ln -s HOST ../inbox",
  "inbox is a relative link": "rm -rf ../inbox; ln -s ../../../../../../../../..HOST ../inbox",
  "inbox is a dangling link": "rm -rf ../inbox; ln -s HOST/made-by-link ../inbox",
  "outbox is a link": "rm -rf ../outbox; ln -s HOST ../outbox",
  "outbox is a file": "rm -rf ../outbox; echo file > ../outbox",
  "workspace is a link": "cd ..; rm -rf workspace; ln -s HOST workspace",
  // To where the agent itself can write on: it is its home.
  "home is a link":
    "cp -a ../home /tmp/home; rm -rf ../home; ln -s /tmp/home ../home; ln -s HOST /tmp/home/all",
  "links in outbox":
    "ln -s HOST/secret ../outbox/secret; ln -s HOST ../outbox/all; ln -s none ../outbox/none",
  "a hard link, a FIFO and a directory in outbox":
    "echo mine > f; ln f ../outbox/hard; mkfifo ../outbox/pipe; mkdir ../outbox/deep; ln -s HOST ../outbox/deep/all",
  "odd names in outbox":
    "printf x > \"../outbox/$(printf 'new\\nline')\"; printf x > \"../outbox/$(printf '\\377')\"; printf x > ../outbox/-rf",
  "what the next sandbox starts in is gone": "cd ..; rm -rf workspace inbox outbox",
};

/** Lingering: the same activation has to cope with it; cold: another one, which restores it. */
const agents = {
  "bwrap-lingering": { runtime: "bwrap" },
  "bwrap-cold": { runtime: "bwrap", linger: "0s" },
  "docker-lingering": { runtime: "docker" },
  "docker-cold": { runtime: "docker", linger: "0s" },
} as const;

describe("a session directory that its agent made hostile (I7, I8)", () => {
  let fleet: Fleet;
  let api: Api;
  let host: string;

  beforeAll(async () => {
    fleet = await Fleet.start({ agents, worker: { places: Object.keys(attacks).length } });
    host = join(fleet.directory, "host");
    await mkdir(host);
    await writeFile(join(host, "secret"), SECRET);
    [{ api }] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  async function attack(agent: string, name: string): Promise<ApiMessage[]> {
    const command = (attacks[name] as string).replaceAll("HOST", host);
    const attached = (data: string) => ({
      agent,
      attachments: [{ name: "a.txt", data: Buffer.from(data).toString("base64") }],
    });
    const first = await api.ask(name, "1", `$ ${command}`, attached("one"));
    const second = await api.ask(
      name,
      "2",
      "$ cat /session/inbox/*/a.txt; echo out > /session/outbox/out.txt",
      attached("two"),
    );
    return [first, second];
  }

  it.each(Object.keys(agents))("%s: leads nowhere, and the next turn works", async (agent) => {
    const outcomes = await Promise.all(
      Object.keys(attacks).map(async (name) => [name, await attack(agent, name)] as const),
    );
    for (const [name, [first, second]] of outcomes) {
      expect(first, `${name}: ${JSON.stringify(fleet.failures)}`).toMatchObject({
        ...{ state: "answered", attempts: 0 },
      });
      expect(JSON.stringify(first), name).not.toContain(SECRET);
      for (const artifact of first?.replies?.flatMap(({ artifacts }) => artifacts) ?? [])
        expect(artifact, name).toMatchObject({ sizeBytes: 1 });
      // An agent that took its own home away may have to be started again for it.
      expect(second, name).toMatchObject({ state: "answered" });
      const [reply] = second?.replies ?? [];
      expect(reply?.text, name).toContain("two");
      expect(
        reply?.artifacts.filter(({ name: file }) => file === "out.txt"),
        name,
      ).toHaveLength(1);
    }
    expect(await readdir(host)).toEqual(["secret"]);
    expect(await readFile(join(host, "secret"), "utf8")).toBe(SECRET);
  });
});
