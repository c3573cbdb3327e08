import { describe, expect, it } from "vitest";
import { printable, printableLine } from "./printable.ts";

describe("printable", () => {
  it.each([
    ["plain, äöü 🙂\n\ttabs", "plain, äöü 🙂\n\ttabs"],
    ["\u001b[2Jgone", "\ufffd[2Jgone"],
    ["over\rwritten", "over\ufffdwritten"],
    ["\u009b31m", "\ufffd31m"],
    ["safe\u202etxt.exe", "safe\ufffdtxt.exe"],
    ["\u0007\u0000\u007f", "\ufffd\ufffd\ufffd"],
  ])("%j becomes %j", (text, expected) => {
    expect(printable(text)).toBe(expected);
  });

  it("keeps a line of a list one line", () => {
    expect(printableLine("a\nb\tc")).toBe("a\ufffdb\ufffdc");
  });
});
