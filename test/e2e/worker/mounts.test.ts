import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

/** What of the host is mounted; every user can pass it. */
let host: string;
beforeEach(async () => {
  host = await mkdtemp(join(tmpdir(), "longshore-mounts-"));
  await chmod(host, 0o755);
  for (const directory of ["docs/acme", "docs/other", "shared"])
    await mkdir(join(host, directory), { recursive: true });
  // Its writers are the users of sandboxes.
  await chmod(join(host, "shared"), 0o777);
  await writeFile(join(host, "docs/acme/manual"), "read me\n");
  await writeFile(join(host, "docs/other/secret"), "of another tenant\n");
});
afterEach(() => rm(host, { recursive: true, force: true }));

const docs = (more: object = {}) => ({ name: "docs", source: `${host}/docs/{tenant}`, ...more });
const allowDocs = () => ({ source: `${host}/docs` });
const allowShared = () => ({ source: `${host}/shared`, modes: ["rw"] });

async function ask(api: Api, conversation: string, id: string, text: string): Promise<string> {
  const answer = await api.ask(conversation, id, text);
  expect(answer.state).toBe("answered");
  return (answer.replies ?? []).map((reply) => reply.text).join();
}

const failed = async (worker: AppProcess, code: string) =>
  (await worker.line(({ msg, err }) => msg === "turn failed" && (err as { code?: string })?.code === code))
    .err as { message: string };

describe.each(["docker", "bwrap"] as const)("mounts, %s", (runtime) => {
  it("are seen below the working directory, written through where that is allowed, and no part of the session", async () => {
    const mounts = [
      docs(),
      { name: "shared", source: `${host}/shared`, mode: "rw", target: "/session/workspace/in/it" },
    ];
    await using fleet = await Fleet.start({
      runtime,
      agent: { mounts, linger: "0s" },
      mounts: [allowDocs(), allowShared()],
    });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    const text =
      "$ cat external/docs/manual; ls external; echo no > external/docs/new 2>&1 | grep -o 'Read-only'; echo yes > in/it/kept; echo mine > mine; ls -d external/docs/../../../../*/other 2>/dev/null";
    expect(await ask(api, "c", "1", text)).toContain("read me\ndocs\n");
    expect(await readdir(join(host, "docs/acme"))).toEqual(["manual"]);
    expect(await readFile(join(host, "shared/kept"), "utf8")).toBe("yes\n");
    // The next activation, and another session, see what there is now.
    await writeFile(join(host, "docs/acme/manual"), "second edition\n");
    expect(await ask(api, "c", "2", "$ cat external/docs/manual in/it/kept mine")).toBe(
      "second edition\nyes\nmine\n",
    );
    const { sessionId } = await api.send("c", "3", "$ true");
    const { files, external } = await api.json<{ files: { path: string }[]; external: unknown }>(
      "GET",
      `/v1/sessions/${sessionId}/files?under=workspace`,
    );
    expect(external).toEqual([
      { path: "workspace/external/docs", kind: "mount", mode: "ro" },
      { path: "workspace/in/it", kind: "mount", mode: "rw" },
    ]);
    const paths = files.map(({ path }) => path);
    expect(paths).toContain("workspace/mine");
    expect(paths.filter((path) => /docs|in\/it/.test(path))).toEqual([]);
  });

  it("are made over no link that an agent left on the way", async () => {
    await using fleet = await Fleet.start({
      runtime,
      agent: { mounts: [docs()], linger: "0s" },
      mounts: [allowDocs()],
    });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    const outside = join(fleet.directory, "outside");
    await mkdir(outside);
    await chmod(outside, 0o777);
    await ask(
      api,
      "c",
      "1",
      `$ mv external gone 2>/dev/null; rm -rf external; ln -s ${outside} external; ln -s / up`,
    );
    expect(await ask(api, "c", "2", "$ cat external/docs/manual; readlink up")).toBe("read me\n/\n");
    expect(await readdir(outside)).toEqual([]);
  });
});

describe("a mount is denied", () => {
  const denials: readonly [string, string, () => { mounts: unknown[]; allowed: unknown[] }][] = [
    ["that nobody allowed", "MOUNT_NOT_ALLOWED", () => ({ mounts: [docs()], allowed: [] })],
    [
      "that is allowed for another tenant",
      "MOUNT_NOT_ALLOWED",
      () => ({ mounts: [docs()], allowed: [{ ...allowDocs(), tenants: ["other"] }] }),
    ],
    [
      "to be written, which is allowed to be read",
      "MOUNT_MODE_NOT_ALLOWED",
      () => ({ mounts: [docs({ mode: "rw" })], allowed: [allowDocs()] }),
    ],
    [
      "of the host's own, whatever is allowed",
      "MOUNT_FORBIDDEN",
      () => ({ mounts: [docs({ source: "/etc/ssl" })], allowed: [{ source: "/" }] }),
    ],
    [
      "that is all of the host",
      "MOUNT_FORBIDDEN",
      () => ({ mounts: [docs({ source: "/" })], allowed: [{ source: "/" }] }),
    ],
    [
      "with credentials in it",
      "MOUNT_FORBIDDEN",
      () => ({ mounts: [docs({ source: `${host}/ada` })], allowed: [{ source: host }] }),
    ],
    [
      "that leads out of what is allowed by a link",
      "MOUNT_NOT_ALLOWED",
      () => ({ mounts: [docs({ source: `${host}/docs/acme/link` })], allowed: [allowDocs()] }),
    ],
    [
      "that is not there",
      "MOUNT_MISSING",
      () => ({ mounts: [docs({ source: `${host}/docs/nothing` })], allowed: [allowDocs()] }),
    ],
  ];

  it.each(denials)("%s: its turns wait, and are told why", async (_, code, given) => {
    await mkdir(join(host, "ada/.ssh"), { recursive: true });
    await symlink(join(host, "shared"), join(host, "docs/acme/link"));
    const { mounts, allowed } = given();
    await using fleet = await Fleet.start({ agent: { mounts }, mounts: allowed });
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    const { messageId } = await api.send("c", "1", "$ ls external/docs");
    await failed(worker, code);
    expect((await api.message(messageId)).state).not.toBe("dead");
    // Optional, they go on without it.
    await fleet.configure({ mounts: mounts.map((mount) => ({ ...(mount as object), required: false })) });
    worker.signal("SIGHUP");
    await expect.poll(async () => (await api.message(messageId)).state).toBe("answered");
    await worker.line(
      ({ msg, err }) => msg === "a mount is left out" && (err as { code?: string }).code === code,
    );
  });

  it("that shows other sessions, or the fleet's own files", async () => {
    await using fleet = await Fleet.start({
      agent: { mounts: [], retry: { backoff: "10ms", longest: "10ms" } },
      mounts: [{ source: "/" }],
    });
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    for (const [index, path] of ["run", "run/workers", "store", ""].entries()) {
      await fleet.configure({ mounts: [docs({ source: join(fleet.directory, path) })] });
      const seen = worker.lines.length;
      worker.signal("SIGHUP");
      await worker.line(({ msg }) => /configuration/.test(String(msg)), seen);
      await api.send(`c${index}`, "1", "$ ls external/docs");
      const { err } = await worker.line(({ msg }) => msg === "turn failed", seen);
      expect(err, path).toMatchObject({ code: "MOUNT_FORBIDDEN" });
    }
  });
});

describe("mounts of a user and of a message", () => {
  const bob = { sender: { id: "bob" } };

  it("are their user's, in one session too", async () => {
    for (const user of ["ada", "bob"]) {
      await mkdir(join(host, "users/http", user), { recursive: true });
      await writeFile(join(host, "users/http", user, "note"), `of ${user}\n`);
    }
    await using fleet = await Fleet.start({
      agent: { mounts: [{ name: "own", source: `${host}/users/{user}` }], linger: "60s" },
      mounts: [{ source: `${host}/users` }],
    });
    const { api } = await fleet.startDispatcher();
    const worker = await fleet.startWorker();
    expect(await ask(api, "c", "1", "$ cat external/own/note")).toBe("of ada\n");
    const { replies } = await api.ask("c", "2", "$ cat external/own/note", bob);
    expect(replies?.[0]?.text).toBe("of bob\n");
    expect(await ask(api, "c", "3", "$ cat external/own/note")).toBe("of ada\n");
    // An id that would lead elsewhere is a name like any other, of which there is none.
    await api.send("d", "1", "$ cat external/own/note", { sender: { id: "../http/ada" } });
    await failed(worker, "MOUNT_MISSING");
  });

  it("are those that the message names, for its turn alone", async () => {
    await using fleet = await Fleet.start({
      agent: { mountsByMessage: true, linger: "60s", busy: "rollback" },
      mounts: [allowDocs(), allowShared()],
    });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    const named = [
      { name: "manual", source: `${host}/docs/acme` },
      { name: "shared", source: `${host}/shared`, mode: "rw" },
    ];
    const { replies } = await api.ask(
      "c",
      "1",
      "$ ls external; cat external/manual/manual; touch external/shared/x",
      {
        mounts: named,
      },
    );
    expect(replies?.[0]?.text).toBe("manual\nshared\nread me\n");
    expect(await readdir(join(host, "shared"))).toContain("x");
    expect(await ask(api, "c", "2", "$ ls -A external 2>&1 | wc -l")).not.toContain("manual");
  });

  it("of which one is denied make a dead letter that says why", async () => {
    await using fleet = await Fleet.start({
      agent: { mountsByMessage: true, mounts: [docs()] },
      mounts: [{ source: `${host}/docs/acme`, tenants: ["acme"] }],
    });
    const { api } = await fleet.startDispatcher();
    await fleet.startWorker();
    const it = { name: "it", source: join(host, "docs/acme") };
    for (const [conversation, code, mount] of [
      ["not allowed", "MOUNT_NOT_ALLOWED", { ...it, source: "/usr/lib" }],
      ["another tenant's", "MOUNT_NOT_ALLOWED", { ...it, source: join(host, "docs/other") }],
      ["to be written", "MOUNT_MODE_NOT_ALLOWED", { ...it, mode: "rw" }],
      ["of the name of one of the agent's", "MOUNT_TARGET_TAKEN", { ...it, name: "docs" }],
      ["not there", "MOUNT_MISSING", { ...it, source: join(host, "docs/acme/nothing") }],
    ] as const) {
      const ended = await api.ask(conversation, "1", "$ true", { mounts: [mount] });
      expect(ended, conversation).toMatchObject({ state: "dead", error: { code } });
    }
    expect(await api.ask("good", "1", "$ true", { mounts: [it] })).toMatchObject({ state: "answered" });
  });

  it("are refused with the message where the definition does not take them, or they are none", async () => {
    await using fleet = await Fleet.start({
      agents: { taking: { mountsByMessage: true } },
      mounts: [allowDocs()],
    });
    const { api } = await fleet.startDispatcher();
    const send = (agent: string, mounts: unknown) =>
      api.request("POST", "/v1/messages", {
        ...{ id: "1", channel: "http", conversation: "c", sender: { id: "ada" }, text: "" },
        ...{ agent, mounts },
      });
    const mount = { name: "docs", source: `${host}/docs/acme` };
    for (const [agent, mounts] of [
      ["shell", [mount]],
      ["taking", [mount, mount]],
      ["taking", [{ ...mount, source: "docs" }]],
      ["taking", [{ ...mount, name: "../x" }]],
      ["taking", Array.from({ length: 11 }, (_, index) => ({ ...mount, name: `m${index}` }))],
    ] as const) {
      const response = await send(agent, mounts);
      expect(response.status).toBe(400);
      expect(await response.text()).toContain("mounts");
    }
    expect((await send("shell", [])).ok).toBe(true);
  });
});
