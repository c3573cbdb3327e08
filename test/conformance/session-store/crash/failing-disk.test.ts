import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { TestStore } from "../support.ts";
import type { Fate } from "./file-boundaries.ts";

it.each<Fate>(["fail", "fail from there on"])(
  "a disk whose calls %s, at each in turn: errors are typed, generations whole, and an error says what took place",
  async (fate) => {
    await using test = await TestStore.open("file");
    const [hook = "", program = ""] = ["file-boundaries.ts", "failing-disk-process.ts"].map((file) =>
      join(import.meta.dirname, file),
    );
    const order = JSON.stringify({ directory: test.directory(), fate });
    const { stdout } = await promisify(execFile)(process.execPath, ["--import", hook, program, order]);
    const counts = JSON.parse(stdout) as Record<string, number>;
    expect(counts.restoresFailed).toBeGreaterThan(20);
    expect(counts.commitsFailed).toBeGreaterThan(0);
    expect(counts.commitsDone).toBeGreaterThan(0);
  },
);
