import { PassThrough } from "node:stream";
import { describe, expect, it } from "vitest";
import type { MessageAnswer } from "./api-schemas.ts";
import { Output } from "./output.ts";
import { ReplyPrinter } from "./reply-printer.ts";

function printer(streams: boolean, json = false) {
  const stdout = new PassThrough({ encoding: "utf8" });
  const stderr = new PassThrough({ encoding: "utf8" });
  const output = new Output({ stdout, stderr });
  output.json = json;
  const shown = () => ({ out: stdout.read() ?? "", err: stderr.read() ?? "" });
  return { printer: new ReplyPrinter({ output, status: undefined, streams }), shown };
}

const answered = (...texts: string[]): MessageAnswer => ({
  messageId: "m",
  sessionId: "s",
  state: "answered",
  replies: texts.map((text, index) => ({ id: String(index), text, artifacts: [] })),
});

describe("ReplyPrinter", () => {
  it("writes only the replies where nobody watches", () => {
    const { printer: it, shown } = printer(false);
    it.onText("thinking");
    it.onTool({ id: "1", title: "ls", status: "in_progress" });
    it.end(answered("one", "two"));
    expect(shown()).toEqual({ out: "one\ntwo\n", err: "" });
  });

  it("streams the reply and does not write it twice", () => {
    const { printer: it, shown } = printer(true);
    it.onText("the ");
    it.onText("answer");
    it.end(answered("the answer"));
    expect(shown()).toEqual({ out: "the answer\n", err: "" });
  });

  it("keeps the work apart from the answer", () => {
    const { printer: it, shown } = printer(true);
    it.onText("let me see");
    it.onTool({ id: "1", title: "ls", status: "in_progress" });
    it.onText("a\nb");
    it.onText("c\n");
    it.onTool({ id: "1", title: undefined, status: "completed" });
    it.onText("two files");
    it.end(answered("two files"));
    expect(shown()).toEqual({ out: "let me see\ntwo files\n", err: "· ls\n  | a\n  | bc\n" });
  });

  it("writes the reply again where it is not what was said last", () => {
    const { printer: it, shown } = printer(true);
    it.onText("half an ans");
    it.onRetry("its worker is gone");
    it.end(answered("the answer"));
    expect(shown()).toEqual({ out: "half an ans\nthe answer\n", err: "· its worker is gone\n" });
  });

  it("shows no control characters of an agent", () => {
    const { printer: it, shown } = printer(true);
    it.onTool({ id: "1", title: "\u001b]0;title\u0007", status: "in_progress" });
    it.onText("\u001b[2J");
    it.onTool({ id: "1", title: undefined, status: "failed" });
    it.end(answered("\u001b[31mred"));
    const { out, err } = shown();
    expect(out + err).not.toContain("\u001b");
  });

  it("gives one JSON value where JSON is asked for", () => {
    const { printer: it, shown } = printer(false, true);
    it.end(answered("one"));
    expect(JSON.parse(shown().out)).toEqual(answered("one"));
  });

  it("fails for a message that was given up on, after what it said", () => {
    const { printer: it, shown } = printer(false);
    const dead: MessageAnswer = {
      ...answered("sorry"),
      state: "dead",
      error: { code: "TURN_TIMEOUT", message: "too long" },
    };
    expect(() => it.end(dead)).toThrow(
      expect.objectContaining({ code: "MESSAGE_DEAD", reason: "TURN_TIMEOUT" }),
    );
    expect(shown().out).toBe("sorry\n");
  });
});
