import { expect, test } from "vitest";
import { StderrTail } from "./stderr-tail.ts";

test("short text is told whole, without the last newline", () => {
  const tail = new StderrTail();
  tail.append(Buffer.from("one\ntwo"));
  tail.append(Buffer.from("2\n"));
  expect(tail.text()).toBe("one\ntwo2");
});

test("only the last lines and bytes are kept, in order", () => {
  const tail = new StderrTail();
  for (let line = 0; line < 10_000; line++) tail.append(Buffer.from(`line ${line}\n`));
  const lines = tail.text().split("\n");
  expect(lines).toHaveLength(40);
  expect(lines.at(0)).toBe("line 9960");
  expect(lines.at(-1)).toBe("line 9999");
});

test("one chunk larger than the ring leaves its end", () => {
  const tail = new StderrTail();
  tail.append(Buffer.from("before"));
  tail.append(Buffer.concat([Buffer.alloc(50_001, "x"), Buffer.from("\nend")]));
  expect(tail.text().endsWith("\nend")).toBe(true);
  expect(tail.text().length).toBeLessThanOrEqual(16 * 1024);
  tail.append(Buffer.from("ing"));
  expect(tail.text().endsWith("\nending")).toBe(true);
});

test("a character that was cut, or never was one, does not make invalid text", () => {
  for (let offset = 0; offset < 4; offset++) {
    const tail = new StderrTail();
    tail.append(Buffer.alloc(offset, "a"));
    for (let count = 0; count < 8_000; count++) tail.append(Buffer.from("€"));
    expect(tail.text()).toMatch(/^€+$/);
  }
  const tail = new StderrTail();
  tail.append(Buffer.from([0x66, 0xff, 0xfe, 0xc3]));
  expect(tail.text().isWellFormed()).toBe(true);
});
