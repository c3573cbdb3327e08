import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

// Files into and out of sessions by HTTP, with the agents that see them.

let fleet: Fleet;
let api: Api;
let worker: AppProcess;

beforeAll(async () => {
  fleet = await Fleet.start({ agent: { linger: "60s" }, agents: { short: { linger: "0s" } }, store: "s3" });
  ({ api } = await fleet.startDispatcher());
  worker = await fleet.startWorker();
});
afterAll(() => fleet[Symbol.asyncDispose]());

const put = async (sessionId: string, path: string, content: string, query = "") => {
  const response = await fetch(`${api.url}/v1/sessions/${sessionId}/files/${path}${query}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${fleet.key}` },
    body: content,
  });
  return { status: response.status, generation: Number(response.headers.get("longshore-generation")) };
};
const ask = async (conversation: string, id: string, text: string, agent = "shell") => {
  const { sessionId, state, replies } = await api.ask(conversation, id, text, { agent });
  expect(state).toBe("answered");
  return { sessionId, text: replies?.[0]?.text };
};

describe.each(["shell", "short"])("a file that is put into a session of %s", (agent) => {
  it("is what the agent reads next, and what is read back", async () => {
    const conversation = `put ${agent}`;
    const { sessionId } = await ask(conversation, "1", "$ echo old > a; echo mine > b", agent);
    expect(await put(sessionId, "workspace/a", "new\n")).toMatchObject({ status: 204 });
    const created = await put(sessionId, "workspace/d/script", "#!/bin/sh\necho ran\n", "?mode=755");
    expect(created.status).toBe(201);
    expect(await api.file(sessionId, "workspace/a")).toBe("new\n");
    const next = await ask(conversation, "2", "$ cat a b; d/script; echo more >> a", agent);
    expect(next.text).toBe("new\nmine\nran\n");
    expect(await api.file(sessionId, "workspace/a")).toBe("new\nmore\n");
    expect(await api.file(sessionId, `workspace/a?generation=${created.generation}`)).toBe("new\n");
  });
});

it("is not applied in the middle of a turn, but after it, in order with the messages", async () => {
  const { sessionId } = await ask("order", "1", "$ echo 0 > f");
  const running = worker.line(
    ({ msg, state }) => msg === "activation" && state === "prompting",
    worker.lines.length,
  );
  const first = api.ask("order", "2", "$ sleep 1; cat f");
  await running;
  const upload = put(sessionId, "workspace/f", "1\n");
  const accepted = await first;
  expect(accepted.replies?.[0]?.text).toBe("0\n");
  expect((await upload).status).toBe(204);
  expect((await ask("order", "3", "$ cat f")).text).toBe("1\n");
});

it("says why a file can't be put, and the session goes on", async () => {
  const { sessionId } = await ask("refused", "1", "$ echo x > file; mkdir dir; ln -s /etc link");
  for (const [path, code] of [
    ["workspace/file/x", "UNSAFE_PATH"],
    ["workspace/dir", "UNSAFE_PATH"],
    ["workspace/link/passwd", "UNSAFE_PATH"],
  ] as const) {
    const response = await fetch(`${api.url}/v1/sessions/${sessionId}/files/${path}`, {
      method: "PUT",
      headers: { authorization: `Bearer ${fleet.key}` },
      body: "x",
    });
    expect([path, response.status, ((await response.json()) as { code: string }).code]).toEqual([
      path,
      400,
      code,
    ]);
  }
  expect((await ask("refused", "2", "$ cat file")).text).toBe("x\n");
});

it("goes back to an earlier generation, for a live agent too", async () => {
  const { sessionId } = await ask("back", "1", "$ echo 1 > f");
  const { generations } = await api.json<{ generations: { generation: number }[] }>(
    "GET",
    `/v1/sessions/${sessionId}/generations`,
  );
  const first = generations[0]?.generation as number;
  await ask("back", "2", "$ echo 2 > f; echo x > g");
  const back = await api.json<{ generation: number }>("POST", `/v1/sessions/${sessionId}/rollback`, {
    generation: first,
  });
  expect(back.generation).toBeGreaterThan(first + 1);
  expect((await ask("back", "3", "$ cat f; ls")).text).toBe("1\nf\n");
});

it("forks, and both go on for themselves", async () => {
  const { sessionId } = await ask("source", "1", "$ echo common > f");
  const fork = await api.json<{ sessionId: string; conversation: string; generation: number }>(
    "POST",
    `/v1/sessions/${sessionId}/fork`,
    { conversation: "branch" },
  );
  expect(fork.generation).toBe(1);
  const [source, branch] = await Promise.all([
    ask("source", "2", "$ echo source >> f; cat f"),
    ask("branch", "1", "$ echo branch >> f; cat f"),
  ]);
  expect(branch).toEqual({ sessionId: fork.sessionId, text: "common\nbranch\n" });
  expect(source).toEqual({ sessionId, text: "common\nsource\n" });
  // A fork of the fork, from before it was talked to.
  const again = await api.json<{ conversation: string }>("POST", `/v1/sessions/${fork.sessionId}/fork`, {
    generation: 1,
  });
  expect((await ask(again.conversation, "1", "$ cat f")).text).toBe("common\n");
});

it("links to artifacts at the object store itself, too", async () => {
  const { messageId, replies } = await api.ask("artifact", "1", "$ echo content > /session/outbox/a.txt");
  const [artifact] = replies?.[0]?.artifacts ?? [];
  const link = await api.json<{ path: string; storeUrl: string }>(
    "GET",
    `/v1/messages/${messageId}/artifacts/${artifact?.id}/link`,
  );
  for (const url of [link.storeUrl, `${api.url}${link.path}`]) {
    const response = await fetch(url);
    expect(await response.text()).toBe("content\n");
    expect(response.headers.get("content-disposition")).toContain("a.txt");
  }
});
