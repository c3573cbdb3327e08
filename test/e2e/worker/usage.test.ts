import { text } from "node:stream/consumers";
import type { SessionUsage } from "@longshore/shared";
import { expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

/** Characters count as tokens for the shell agent. */
const usageOf = async (api: Api, sessionId: string) =>
  (await api.json<{ usage?: SessionUsage }>("GET", `/v1/sessions/${sessionId}`)).usage;

async function countedBy(worker: AppProcess): Promise<Readonly<Record<string, number>>> {
  const { metricsUrl } = await worker.line(({ msg }) => msg === "worker ready");
  const metrics = await (await fetch(new URL("/metrics", metricsUrl as string))).text();
  const found = metrics.matchAll(
    /^longshore_tokens_total\{tenant="acme",agent="shell",kind="(\w+)"\} (\d+)$/gm,
  );
  return Object.fromEntries([...found].map(([, kind, count]) => [kind, Number(count)]));
}

it("plans, and what an agent uses, are told: in events, by session and on the next host, as a metric", async () => {
  await using fleet = await Fleet.start({ agent: { retry: { attempts: 1 } } });
  const [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  const plan = "!plan look\nwrite";
  const streamed = await text(await api.stream("c", "1", plan));
  expect(streamed).toContain('"entries":[{"content":"look","status":"in_progress"},{"content":"write"');
  const answer = "a plan of 2 steps";
  expect(streamed).toContain(`"tokens":{"input":${plan.length},"output":${answer.length}}`);
  const { sessionId } = await api.ask("c", "1", plan);
  const first = { input: plan.length, output: answer.length };
  const context = { usedTokens: first.input + first.output, sizeTokens: 1_000_000 };
  expect(await usageOf(api, sessionId)).toEqual({ tokens: first, context });
  expect(await countedBy(worker)).toEqual(first);

  // A turn that fails tells nothing of what it used.
  expect((await api.ask("c", "2", "!crash")).state).toBe("dead");
  expect((await usageOf(api, sessionId))?.tokens).toEqual(first);

  await worker.kill();
  await fleet.startWorker({ LONGSHORE_RUN_DIR: `${fleet.directory}/next` });
  expect((await api.ask("c", "3", "$ printf 123")).state).toBe("answered");
  const sum = { input: first.input + "$ printf 123".length, output: first.output + 3 };
  expect((await usageOf(api, sessionId))?.tokens).toEqual(sum);
});

it("an agent that takes images is shown them", async () => {
  await using fleet = await Fleet.start();
  const { api } = await fleet.startDispatcher();
  await fleet.startWorker();
  const data = Buffer.alloc(2_000_000, "pixels").toString("base64");
  const attachments = [
    { name: "photo.png", contentType: "image/png", data },
    { name: "notes.txt", contentType: "text/plain", data: Buffer.from("remember").toString("base64") },
  ];
  const [reply] = (await api.ask("c", "1", "what is this?", { attachments })).replies ?? [];
  expect(reply?.text).toContain("In the prompt photo.png: image/png, 2000000 bytes");
  expect(reply?.text).toContain("In the prompt notes.txt: text/plain, 8 bytes");
  expect(reply?.text).toContain("- inbox/");
});
