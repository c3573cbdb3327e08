import { describe, expect, it } from "vitest";
import type { AgentUpdate } from "./agent.ts";
import { ExecOutput } from "./exec-output.ts";

function read(pieces: readonly (string | Buffer)[], lineMax = 1000): AgentUpdate[] {
  const updates: AgentUpdate[] = [];
  const output = new ExecOutput(lineMax, (update) => updates.push(update));
  for (const piece of pieces) output.write(Buffer.from(piece as string));
  output.end();
  return updates;
}

/** Updates with the pieces of one text joined. */
function joined(updates: readonly AgentUpdate[]): AgentUpdate[] {
  const result: AgentUpdate[] = [];
  for (const update of updates) {
    const last = result.at(-1);
    if (update.type === "text" && last?.type === "text")
      result[result.length - 1] = { type: "text", text: last.text + update.text };
    else result.push(update);
  }
  return result;
}

const OUTPUT = [
  "plain ä text\n",
  '{"type":"delta","text":"said"}\n',
  '{"type":"file","path":"a b.txt"}\n',
  '{"type":"other"}\n',
  '{"type":"reply"}\n',
  "{ broken\n",
  ' {"type":"reply","text":"indented"}\n',
  '{"type":"reply","text":"€ the answer","more":1}\n',
  "the end",
].join("");

const EXPECTED: AgentUpdate[] = [
  { type: "text", text: "plain ä text\nsaid" },
  { type: "file", path: "a b.txt" },
  {
    type: "text",
    text: '{"type":"other"}\n{"type":"reply"}\n{ broken\n {"type":"reply","text":"indented"}\n',
  },
  { type: "reply", text: "€ the answer" },
  { type: "text", text: "the end" },
];

describe("what a command writes", () => {
  it("is text, but for lines that are a directive", () => {
    expect(joined(read([OUTPUT]))).toEqual(EXPECTED);
  });

  it("is the same in whatever pieces it comes, in the middle of characters too", () => {
    const bytes = Buffer.from(OUTPUT);
    for (const size of [1, 2, 3, 7]) {
      const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) =>
        bytes.subarray(at * size, (at + 1) * size),
      );
      expect(joined(read(pieces))).toEqual(EXPECTED);
    }
  });

  it("is passed on as it comes, without its line's end", () => {
    const updates: AgentUpdate[] = [];
    const output = new ExecOutput(1000, (update) => updates.push(update));
    output.write(Buffer.from("half a li"));
    expect(updates).toEqual([{ type: "text", text: "half a li" }]);
    output.write(Buffer.from('ne {"type":"delta","text":"x"}\n'));
    expect(joined(updates)).toEqual([{ type: "text", text: 'half a line {"type":"delta","text":"x"}\n' }]);
  });

  it("is a directive without a newline at the very end, too", () => {
    expect(read(['{"type":"reply","text":"x"}'])).toEqual([{ type: "reply", text: "x" }]);
  });

  it("is text where the line of a directive is too long, with or without an end", () => {
    const line = `{"type":"reply","text":"${"x".repeat(100)}"}`;
    expect(joined(read([line, "\nand on\n"], 50))).toEqual([{ type: "text", text: `${line}\nand on\n` }]);
    expect(joined(read([`${line}\n`], 50))).toEqual([{ type: "text", text: `${line}\n` }]);
    let held = 0;
    const output = new ExecOutput(50, (update) => {
      if (update.type === "text") held -= update.text.length;
    });
    for (let piece = 0; piece < 1000; piece++) {
      output.write(Buffer.from(`{${"y".repeat(99)}`));
      held += 100;
      expect(held).toBeLessThanOrEqual(100);
    }
  });

  it("that is no UTF-8 is replaced", () => {
    expect(joined(read([Buffer.of(0x61, 0xff, 0xc3), "b", Buffer.of(0xe2, 0x82)]))).toEqual([
      { type: "text", text: "a\ufffd\ufffdb\ufffd" },
    ]);
  });
});
