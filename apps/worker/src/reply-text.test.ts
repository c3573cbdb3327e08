import { describe, expect, it } from "vitest";
import { ReplyText } from "./reply-text.ts";

function said(maxBytes: number, ...parts: (string | null)[]): ReplyText {
  const text = new ReplyText(maxBytes);
  for (const part of parts) {
    if (part === null) text.toolCalled();
    else text.append(part);
  }
  return text;
}

describe("ReplyText", () => {
  it("is what follows the last tool call", () => {
    expect(said(100, "let me see", null, "half", null, "the ", "answer").read("last")).toBe("the answer");
  });

  it("is all of the text where nothing but space follows, or where the definition says so", () => {
    expect(said(100, "done, ", null, "\n").read("last")).toBe("done, \n");
    expect(said(100, "a", null, "b").read("all")).toBe("ab");
  });

  it("is cut at its bound, says so, and never in the middle of a character", () => {
    const reply = said(5, "abcd", "äöü").read("last");
    expect(reply).toBe("abcd\n[cut: 6 more bytes]");
  });

  it("counts its bound anew after a tool call", () => {
    expect(said(5, "123456789", null, "short").read("last")).toBe("short");
  });
});
