import { describe, expect, it } from "vitest";
import { parsePrompt } from "./prompt.ts";

const text = (value: string) => ({ type: "text" as const, text: value });

describe("parsePrompt", () => {
  it("takes the worker's header from the text", () => {
    const { messages } = parsePrompt([text("[2026-01-02T03:04:05.678Z Ada in http/c1]\n$ echo a\necho b")]);
    expect(messages).toEqual([
      { time: "2026-01-02T03:04:05.678Z", sender: "Ada", conversation: "http/c1", text: "$ echo a\necho b" },
    ]);
  });

  it.each([
    ["Ann in Rome", "slack/C1/with/slashes"],
    ["[bracket]", "http/[x]"],
    ["", "http/a b"],
  ])("keeps an odd sender %j and conversation %j", (sender, conversation) => {
    const { messages } = parsePrompt([text(`[2026-01-02T03:04:05Z ${sender} in ${conversation}]\nhello`)]);
    expect(messages[0]).toMatchObject({ sender, conversation, text: "hello" });
  });

  it("takes a block without header as text", () => {
    expect(parsePrompt([text("$ true"), text("[not a header]\nx")]).messages).toEqual([
      { text: "$ true" },
      { text: "[not a header]\nx" },
    ]);
  });

  it("gives attachments by path, and an address that is no file as it is", () => {
    const { attachments } = parsePrompt([
      { type: "resource_link", name: "a b", uri: "file:///session/inbox/m1/a%20b" },
      { type: "resource_link", name: "web", uri: "https://example.org/x" },
    ]);
    expect(attachments).toEqual([
      { name: "a b", path: "/session/inbox/m1/a b" },
      { name: "web", path: "https://example.org/x" },
    ]);
  });
});
