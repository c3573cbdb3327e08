import { describe, expect, it } from "vitest";
import { outboundContent } from "./outbound-content.ts";

const routes = [{ channel: "http", conversation: "c" }];

function read(content: unknown, more: Record<string, unknown> = {}) {
  const row = {
    ...{ id: "msg-1", seq: 1, inReplyTo: null, kind: "chat", platformId: null, channelType: null },
    content: typeof content === "string" || content === null ? content : JSON.stringify(content),
    ...more,
  };
  return outboundContent(row, routes, [{ channel: "slack", conversation: "team" }]);
}

describe("what a row of messages_out asks for", () => {
  it("is a message, with its files where the contract has them", () => {
    expect(read({ text: "hi" })).toEqual({ type: "message", text: "hi", files: [], to: undefined });
    expect(read({ text: "hi", files: ["a b.txt"] }, { kind: "chat-sdk" })).toEqual({
      ...{ type: "message", text: "hi", files: ["/session/outbox/msg-1/a b.txt"], to: undefined },
    });
    expect(read({ text: "hi" }, { channelType: "slack", platformId: "team" })).toMatchObject({
      to: { channel: "slack", conversation: "team" },
    });
    expect(read({ text: "hi" }, { channelType: "http", platformId: "c" })).toMatchObject({ text: "hi" });
  });

  it("is a question, with the values of its options", () => {
    const options = ["yes", { label: "no", value: "n" }];
    const content = {
      type: "ask_question",
      questionId: "q",
      title: "Delete?",
      question: "All of it?",
      options,
    };
    expect(read(content)).toEqual({
      type: "question",
      id: "q",
      text: "Delete?\nAll of it?",
      options: [
        { label: "yes", value: "yes" },
        { label: "no", value: "n" },
      ],
    });
  });

  it("is what can be read of a card", () => {
    const card = {
      title: "T",
      description: "D",
      children: ["one", { text: "two" }],
      actions: [{ label: "Go", url: "https://example.com" }],
    };
    expect(read({ type: "card", card })).toMatchObject({ text: "T\nD\none\ntwo\nGo: https://example.com" });
    expect(read({ type: "card", card, fallbackText: "plain" })).toMatchObject({ text: "plain" });
  });

  it("is nothing where there is nothing to see", () => {
    expect(read({ text: "" })).toEqual({ type: "nothing" });
    expect(read("anything", { kind: "task_log" })).toEqual({ type: "nothing" });
  });

  it.each([
    ["another conversation", { text: "x" }, { channelType: "http", platformId: "d" }],
    ["another channel", { text: "x" }, { channelType: "slack", platformId: "c" }],
    ["another agent", { text: "x" }, { channelType: "agent", platformId: "c" }],
    ["an action of the host's", { action: "x" }, { kind: "system" }],
    ["an edit", { operation: "edit", messageId: "1", text: "x" }, {}],
    ["no JSON", "{", {}],
    ["no object", "3", {}],
    ["a text that is none", { text: 3 }, {}],
    ["what was too long to read", null, {}],
    ["more files than a message has", { files: Array.from({ length: 101 }, (_, n) => `${n}`) }, {}],
    ["a question without an end", { type: "ask_question", questionId: "q", question: "x".repeat(8_001) }, {}],
    [
      "options without an end",
      { type: "ask_question", questionId: "q", question: "x", options: Array(21).fill("x") },
      {},
    ],
    [
      "an option without an end",
      { type: "ask_question", questionId: "q", question: "x", options: ["x".repeat(201)] },
      {},
    ],
    ["a file above", { files: ["../x"] }, {}],
    ["a file below", { files: ["a/b"] }, {}],
    ["a file of no name", { files: [""] }, {}],
    ["the directory", { files: ["."] }, {}],
    ["a row whose id is a path", { files: ["a"] }, { id: "../x" }],
  ])("is refused for %s", (_, content, more) => {
    expect(read(content, more)).toMatchObject({ type: "refused", reason: expect.any(String) });
  });
});
