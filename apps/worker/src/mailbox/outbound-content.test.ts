import { describe, expect, it } from "vitest";
import { outboundContent } from "./outbound-content.ts";

const routes = [{ channel: "http", conversation: "c" }];

const NOW = Date.parse("2026-01-01T00:00:00Z");

function read(content: unknown, more: Record<string, unknown> = {}) {
  const row = {
    ...{ id: "msg-1", seq: 1, inReplyTo: null, kind: "chat", platformId: null, channelType: null },
    ...{ deliverAfter: null, recurrence: null },
    content: typeof content === "string" || content === null ? content : JSON.stringify(content),
    ...more,
  };
  return outboundContent(row, routes, [{ channel: "slack", conversation: "team" }], NOW);
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

  it("is sent where its time has come", () => {
    expect(read({ text: "hi" }, { deliverAfter: "2026-01-01T00:00:00Z" })).toMatchObject({ text: "hi" });
  });

  it.each([
    [
      { operation: "edit", messageId: "m", text: "x" },
      { type: "edit", messageId: "m", text: "x" },
    ],
    [
      { operation: "reaction", messageId: "m", emoji: "x" },
      { type: "reaction", messageId: "m", emoji: "x" },
    ],
  ])("is a change of a message: %j", (content, request) => {
    expect(read(content)).toEqual({ type: "request", request });
  });

  const task = { taskId: "t", prompt: "p", processAfter: "2026-02-01T00:00:00.000Z", script: null };
  it.each([
    [
      { action: "schedule_task", ...task, recurrence: null },
      { type: "schedule", taskId: "t", prompt: "p", timing: { at: task.processAfter } },
    ],
    [
      { action: "schedule_task", ...task, recurrence: "0 9 * * *" },
      { type: "schedule", taskId: "t", prompt: "p", timing: { cron: "0 9 * * *" } },
    ],
    [
      { action: "update_task", taskId: "t", prompt: "q" },
      { type: "update", taskId: "t", change: { prompt: "q", timing: undefined } },
    ],
    [
      { action: "update_task", taskId: "t", processAfter: task.processAfter, recurrence: null },
      { type: "update", taskId: "t", change: { prompt: undefined, timing: { at: task.processAfter } } },
    ],
    [
      { action: "pause_task", taskId: "t" },
      { type: "update", taskId: "t", change: { paused: true } },
    ],
    [
      { action: "resume_task", taskId: "t" },
      { type: "update", taskId: "t", change: { paused: false } },
    ],
    [
      { action: "cancel_task", taskId: "t" },
      { type: "cancel", taskId: "t" },
    ],
  ])("is an action of the fleet's: %j", (content, request) => {
    expect(read(content, { kind: "system" })).toEqual({ type: "request", request });
  });

  it("is nothing where there is nothing to see", () => {
    expect(read({ text: "" })).toEqual({ type: "nothing" });
    expect(read("anything", { kind: "task_log" })).toEqual({ type: "nothing" });
  });

  it.each([
    ["another conversation", { text: "x" }, { channelType: "http", platformId: "d" }],
    ["another channel", { text: "x" }, { channelType: "slack", platformId: "c" }],
    ["another agent", { text: "x" }, { channelType: "agent", platformId: "c" }],
    ["an action that there is not", { action: "install_packages", packages: [] }, { kind: "system" }],
    ["an action of no name", "[]", { kind: "system" }],
    [
      "a task that a program decides on",
      { action: "schedule_task", taskId: "t", prompt: "p", processAfter: "x", script: "exit 1" },
      { kind: "system" },
    ],
    ["a task of no name", { action: "cancel_task", taskId: "" }, { kind: "system" }],
    [
      "a task without an end",
      { action: "schedule_task", taskId: "t", prompt: "x".repeat(16_385), processAfter: "x" },
      { kind: "system" },
    ],
    ["an edit of nothing", { operation: "edit", text: "x" }, {}],
    ["another operation", { operation: "pin", messageId: "1" }, {}],
    ["a message for later", { text: "x" }, { deliverAfter: "2026-01-01T00:00:01Z" }],
    ["a message for some time", { text: "x" }, { deliverAfter: "soon" }],
    ["a message for ever", { text: "x" }, { recurrence: "0 9 * * *" }],
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
