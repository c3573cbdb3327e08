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

  it("is what was said to be the reply, the last such text or all of them, each cut at its bound", () => {
    const text = said(20, "working");
    text.reply("first");
    text.append("still working");
    text.reply("second");
    expect(text.read("last")).toBe("second");
    expect(text.read("all")).toBe("first\n\nsecond");
    text.reply("x".repeat(30));
    expect(text.read("last")).toBe(`${"x".repeat(20)}\n[cut: 10 more bytes]`);
    expect(text.read("all")).toContain("more bytes]");
  });

  it("says so where it was cut off", () => {
    const text = said(100, "so far\n");
    text.cut("nothing more came");
    expect(text.read("last")).toBe("so far\n[cut: nothing more came]");
  });
});
