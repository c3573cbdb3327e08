import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { ByteCounter, ProgressBar, showBytes, showProgress } from "./progress-bar.ts";
import { StatusLine } from "./status-line.ts";

describe("progress", () => {
  it.each([
    [0, "0 B"],
    [1_023, "1023 B"],
    [1_024, "1.0 KiB"],
    [1_572_864, "1.5 MiB"],
    [5 * 1024 ** 4, "5.0 TiB"],
    [5_000 * 1024 ** 4, "5000.0 TiB"],
  ])("says %i bytes as %s", (bytes, text) => {
    expect(showBytes(bytes)).toBe(text);
  });

  it("draws a bar, whatever the numbers", () => {
    expect(showProgress("pull", 0, 1_024)).toBe(`pull ${"░".repeat(24)} 0% of 1.0 KiB`);
    expect(showProgress("pull", 512, 1_024)).toBe(`pull ${"█".repeat(12)}${"░".repeat(12)} 50% of 1.0 KiB`);
    expect(showProgress("pull", 2_000, 1_024)).toContain(" 100% ");
    expect(showProgress("pull", 0, 0)).toContain(" 100% ");
  });

  it("is drawn only after a while, and taken away at the end", async () => {
    let written = "";
    const line = new StatusLine({
      write: (text) => {
        written += text;
      },
      columns: () => 80,
      clock: systemClock,
    });
    {
      using quick = new ProgressBar(line, "quick", { delayMs: 60_000 });
      new ByteCounter(quick, "quick", 100).add(50);
    }
    expect(written).toBe("");
    {
      using slow = new ProgressBar(line, "slow", { delayMs: 0 });
      const counter = new ByteCounter(slow, "slow", 100);
      while (written === "") await sleep(1);
      counter.add(50);
    }
    expect(written).toContain("0% of 100 B");
    expect(written.endsWith("\r\u001b[K")).toBe(true);
  });

  it("is nothing where no terminal watches", () => {
    using bar = new ProgressBar(undefined, "nothing", { delayMs: 0 });
    expect(() => bar.show("text")).not.toThrow();
  });
});
