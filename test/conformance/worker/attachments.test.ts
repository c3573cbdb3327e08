import { chmod, link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBackend, SessionStore } from "@longshore/session-store";
import type { AcceptedMessage } from "@longshore/shared";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { writeAttachments } from "../../../apps/worker/src/inbox.ts";
import { collectFiles } from "../../../apps/worker/src/outbox-files.ts";

const ref = { tenant: "acme", sessionId: "s" };
const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const signal = new AbortController().signal;

let root: string;
let slot: string;
let host: string;
let store: SessionStore;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "attachments-"));
  slot = join(root, "slot");
  host = join(root, "host");
  await Promise.all([slot, host].map((path) => mkdir(path)));
  await writeFile(join(host, "secret"), "the host's");
  store = new SessionStore({ backend: openBackend(`file://${join(root, "store")}`) });
});
afterEach(async () => {
  // The host's files are as they were, whatever stood in the slot (I8).
  expect(await readdir(host)).toEqual(["secret"]);
  expect(await readFile(join(host, "secret"), "utf8")).toBe("the host's");
  await rm(root, { recursive: true });
});

async function attach(): Promise<void> {
  const stored = await store.putInbound(ref, Buffer.from("a,b"));
  const message: AcceptedMessage = {
    id: "s-1",
    ...ref,
    agent: "shell",
    channel: "http",
    conversation: "c",
    sender: { id: "u" },
    text: "",
    attachments: [{ name: "t.csv", contentType: "text/csv", ...stored }],
    kind: "chat",
    acceptedAt: "2026-01-01T00:00:00.000Z",
  };
  await writeAttachments(store, ref, message, slot, owner, signal);
}

const collect = (...named: readonly string[]) =>
  collectFiles(store, ref, "turn", slot, {
    named,
    limits: { attachments: 2, attachmentBytes: 10 },
    owner,
    signal,
  });

describe("attachments", () => {
  it.each<[string, () => Promise<unknown>]>([
    ["nothing", async () => undefined],
    ["a link in the place of inbox", () => symlink(host, join(slot, "inbox"))],
    ["a dangling link in its place", () => symlink(join(host, "none"), join(slot, "inbox"))],
    ["a file in its place", () => writeFile(join(slot, "inbox"), "")],
    ["a link in the place of the message", () => linkIn("inbox", "s-1", host)],
    ["a link in the place of the file", () => linkIn("inbox/s-1", "t.csv", join(host, "secret"))],
  ])("are written over %s", async (_, prepare) => {
    await prepare();
    await attach();
    await attach();
    expect(await readFile(join(slot, "inbox/s-1/t.csv"), "utf8")).toBe("a,b");
  });
});

describe("outbox files", () => {
  it("are taken up to their number and size, and leave the directory", async () => {
    await mkdir(join(slot, "outbox"));
    await writeFile(join(slot, "outbox/a.txt"), "12345");
    const { artifacts, refused } = await collect();
    expect(artifacts).toMatchObject([{ name: "a.txt", sizeBytes: 5, contentType: "text/plain" }]);
    expect(refused).toEqual([]);
    expect(await readdir(join(slot, "outbox"))).toEqual([]);
  });

  it("are refused, and left, where they are too large, links, or another name of a file", async () => {
    await mkdir(join(slot, "outbox/directory"), { recursive: true });
    await writeFile(join(slot, "outbox/large"), "x".repeat(11));
    await symlink(join(host, "secret"), join(slot, "outbox/link"));
    await link(join(host, "secret"), join(slot, "outbox/other-name"));
    const { artifacts, refused } = await collect();
    expect(artifacts).toEqual([]);
    expect(refused.map(({ name }) => name).sort()).toEqual(["directory", "large", "link", "other-name"]);
    expect(await readdir(join(slot, "outbox"))).toHaveLength(4);
  });

  it("are none where outbox itself is a link to the host", async () => {
    await symlink(host, join(slot, "outbox"));
    expect(await collect()).toEqual({ artifacts: [], refused: [] });
  });
});

describe("files that the agent named", () => {
  it("are taken where they are, and stay; with those of outbox they are no more than may be", async () => {
    await mkdir(join(slot, "workspace/a"), { recursive: true });
    await mkdir(join(slot, "outbox"));
    for (const path of ["workspace/x", "workspace/a/x", "outbox/y"]) await writeFile(join(slot, path), "12");
    const { artifacts, refused } = await collect("x", "/session/workspace/a/x");
    expect(artifacts.map(({ name }) => name)).toEqual(["x", "x"]);
    expect(new Set(artifacts.map(({ id }) => id)).size).toBe(2);
    expect(refused).toEqual([{ name: "y", reason: "more than 2 files" }]);
    expect(await readdir(join(slot, "workspace"))).toEqual(["a", "x"]);
    expect(await readdir(join(slot, "outbox"))).toEqual(["y"]);
  });

  it("are refused where they are outside, not there, links, below links, or no files", async () => {
    await mkdir(join(slot, "workspace"));
    await mkdir(join(slot, "home"));
    await writeFile(join(slot, "home/x"), "1");
    await symlink(join(host, "secret"), join(slot, "workspace/link"));
    await symlink(host, join(slot, "workspace/below"));
    await link(join(host, "secret"), join(slot, "workspace/other-name"));
    const paths = ["../home/x", "none", "link", "below/secret", "other-name", "."];
    const { artifacts, refused } = await collect(...paths);
    expect(artifacts).toEqual([]);
    expect(refused.map(({ name }) => name)).toEqual([
      "../home/x",
      ".",
      "none",
      "link",
      "secret",
      "other-name",
    ]);
  });
});

async function linkIn(directory: string, name: string, target: string): Promise<void> {
  await mkdir(join(slot, directory), { recursive: true });
  await chmod(join(slot, directory), 0o700);
  await symlink(target, join(slot, directory, name));
}
