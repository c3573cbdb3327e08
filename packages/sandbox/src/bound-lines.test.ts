import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { expect, test } from "vitest";
import { boundLines, OutputLimitError } from "./index.ts";

async function linesOf(chunks: readonly Buffer[], maxLineBytes: number): Promise<string[]> {
  const seen: string[] = [];
  await pipeline(
    Readable.from(chunks, { objectMode: false }),
    boundLines({ maxLineBytes }),
    async (lines) => {
      for await (const chunk of lines) seen.push((chunk as Buffer).toString());
    },
  );
  return seen;
}

test("whole lines come out, however the bytes were cut, and characters stay whole", async () => {
  const text = Buffer.from("größer\nzwei\n\nohne Ende ü");
  for (let cut = 1; cut < text.length; cut++) {
    const seen = await linesOf([text.subarray(0, cut), text.subarray(cut)], 100);
    expect(seen.join("")).toBe(text.toString());
    for (const chunk of seen.slice(0, -1)) expect(chunk.endsWith("\n")).toBe(true);
    expect(seen.join("")).not.toContain("\ufffd");
  }
});

test("a line of exactly the limit passes and one byte more does not", async () => {
  await expect(linesOf([Buffer.from("12345\n12345\n")], 5)).resolves.toEqual(["12345\n12345\n"]);
  await expect(linesOf([Buffer.from("12345\n123456\n")], 5)).rejects.toThrow(OutputLimitError);
});

test("a line that was carried over counts in full", async () => {
  await expect(linesOf([Buffer.from("ok\n123"), Buffer.from("456\n")], 5)).rejects.toThrow(OutputLimitError);
});

test("a line without end is refused before it ends", async () => {
  let produced = 0;
  const endless = new Readable({
    read() {
      produced += 1024;
      this.push(Buffer.alloc(1024, "x"));
    },
  });
  const lines = boundLines({ maxLineBytes: 10_000 });
  lines.resume();
  await expect(pipeline(endless, lines)).rejects.toThrow(OutputLimitError);
  expect(produced).toBeLessThan(200_000);
});
