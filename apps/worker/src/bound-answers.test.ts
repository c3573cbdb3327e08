import type { ndJsonStream } from "@agentclientprotocol/sdk";
import { expect, it } from "vitest";
import { boundAnswers } from "./bound-answers.ts";

type MessageStream = ReturnType<typeof ndJsonStream>;
type Message = MessageStream extends { readonly readable: ReadableStream<infer M> } ? M : never;

/** The stream of a connection whose agent has sent these messages. */
function connectionOf(messages: readonly Message[]) {
  const written: Message[] = [];
  const stream = boundAnswers({
    readable: new ReadableStream({
      start(controller) {
        for (const message of messages) controller.enqueue(message);
        controller.close();
      },
    }),
    writable: new WritableStream({ write: (message) => void written.push(message) }),
  });
  return { reader: stream.readable.getReader(), writer: stream.writable.getWriter(), written };
}

const ask = (id: number): Message => ({
  jsonrpc: "2.0",
  id,
  method: "session/request_permission",
  params: {},
});
const answer = (id: number): Message => ({ jsonrpc: "2.0", id, result: {} });

it("passes on as many requests as are answered", async () => {
  const { reader, writer, written } = connectionOf(Array.from({ length: 2_000 }, (_, id) => ask(id)));
  for (let id = 0; id < 2_000; id++) {
    expect((await reader.read()).value).toEqual(ask(id));
    await writer.write(answer(id));
  }
  expect(written).toHaveLength(2_000);
});

it("fails where they are not", async () => {
  const { reader } = connectionOf(Array.from({ length: 2_000 }, (_, id) => ask(id)));
  const readAll = async () => {
    while (!(await reader.read()).done);
  };
  await expect(readAll()).rejects.toThrow("unread");
});

it("leaves out answers to what was not asked, and second ones", async () => {
  const { reader, writer } = connectionOf([answer(7), answer(1), answer(1), ask(2)]);
  await writer.write({ jsonrpc: "2.0", id: 1, method: "initialize", params: {} });
  expect((await reader.read()).value).toEqual(answer(1));
  expect((await reader.read()).value).toEqual(ask(2));
});
