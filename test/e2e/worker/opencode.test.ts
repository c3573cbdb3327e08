import { join } from "node:path";
import { expect, it } from "vitest";
import { opencode } from "../../../infra/setup/npm-agent.ts";
import { Fleet } from "../../support/fleet.ts";
import { MessagesApi } from "../../support/messages-api.ts";
import { ProvidedAgent } from "../../support/npm-agent.ts";

/** Another agent that people have: nothing of the fleet knows one by name. */
it("OpenCode takes turns, uses tools, and goes on with its session on another host", async () => {
  await using agent = await ProvidedAgent.provide(opencode, "docker");
  await using provider = await MessagesApi.start();
  await using fleet = await Fleet.start({ runtime: "docker", agent: agent.definition(provider) });
  const startWorker = (name: string) =>
    fleet.startWorker({
      LONGSHORE_RUN_DIR: join(fleet.directory, name),
      NODE_EXTRA_CA_CERTS: provider.certificateFile,
    });
  const [{ api }, first] = await Promise.all([fleet.startDispatcher(), startWorker("first")]);
  provider.answer = ({ latest }) =>
    latest.includes("tool_result")
      ? [{ type: "text", text: "It is written." }]
      : [
          {
            type: "tool_use",
            name: "write",
            input: { filePath: "/session/workspace/notes.txt", content: "remember: blue\n" },
          },
        ];
  const written = await api.ask("c", "1", "My colour is blue, write it down.");
  expect([written.state, written.replies?.map(({ text }) => text)]).toEqual(["answered", ["It is written."]]);
  expect(await api.file(written.sessionId, "workspace/notes.txt")).toBe("remember: blue\n");
  await first.kill();
  await startWorker("second");
  provider.answer = () => [{ type: "text", text: "Blue." }];
  const answer = await api.ask("c", "2", "Which colour?");
  expect([answer.state, answer.replies?.map(({ text }) => text)]).toEqual(["answered", ["Blue."]]);
  const said = provider.requests.at(-1)?.said.join("\n");
  expect(said).toContain("My colour is blue");
  expect(said).toContain("It is written.");
  expect(provider.refused).toEqual([]);
});
