import { describe, expect, it, vi } from "vitest";
import { StatusLine } from "./status-line.ts";

describe("StatusLine", () => {
  it("draws, redraws as time goes by, fits the terminal, and takes itself away", () => {
    vi.useFakeTimers();
    try {
      let written = "";
      let now = 0;
      const line = new StatusLine({
        write: (text) => {
          written += text;
        },
        columns: () => 20,
        clock: { now: () => now, monotonic: () => now },
      });
      line.show("running\u001b[31m");
      expect(written).toBe("\r\u001b[K… running\ufffd[31m (0.0");
      now = 1_250;
      written = "";
      line.show("queued");
      vi.advanceTimersByTime(250);
      expect(written).toBe("\r\u001b[K… queued (1.3 s)".repeat(2));
      written = "";
      line.hide();
      line.hide();
      vi.advanceTimersByTime(1_000);
      expect(written).toBe("\r\u001b[K");
    } finally {
      vi.useRealTimers();
    }
  });
});
