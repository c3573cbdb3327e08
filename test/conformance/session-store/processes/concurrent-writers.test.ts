import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { REF, type StoreKind, storeKinds, TestStore } from "../support.ts";
import { TestProcess } from "./test-process.ts";
import type { WriterOrder } from "./writer-process.ts";

const WRITERS = ["ada", "ben", "cyd"];
const TOGETHER = 4;
const COMMITS = 5;

describe.each(storeKinds)("processes that write to one session on %s", (kind: StoreKind) => {
  it("win one generation each time, are told who won, lose nothing, and disturb no reader", async () => {
    await using test = await TestStore.open(kind);
    await using processes = new AsyncDisposableStack();
    const writers = WRITERS.map((name) => {
      const order: WriterOrder = {
        url: test.url,
        sessionId: REF.sessionId,
        directory: test.directory(),
        name,
        together: TOGETHER,
        commits: COMMITS,
      };
      return { name, process: processes.use(TestProcess.start("writer-process.ts", order)) };
    });
    // All have the same parent: one generation comes of it, and the others are told whose.
    for (let round = 0; round < TOGETHER; round++) {
      await Promise.all(writers.map(({ process }) => process.lines(2 * round + 1)));
      for (const { process } of writers) {
        expect(process.said.at(-1)).toBe(`at ${round}`);
        process.tell("go");
      }
      await Promise.all(writers.map(({ process }) => process.lines(2 * round + 2)));
      const answers = writers.map(({ process }) => process.said[2 * round + 1] ?? "");
      expect(answers.filter((answer) => answer.startsWith("committed"))).toHaveLength(1);
      expect(new Set(answers.map((answer) => answer.replace(/^\w+ /, ""))).size).toBe(1);
    }
    // Then each as fast as it can.
    let writing = true;
    const written = Promise.all(writers.map(({ process }) => process.end())).finally(() => {
      writing = false;
    });
    const linesOf = async (generation?: number): Promise<string[]> => {
      const directory = test.directory();
      const commit =
        generation === undefined
          ? await test.store.readNewest(REF)
          : await test.store.readCommit(REF, generation);
      using _ = await test.store.hydrate(REF, commit, directory);
      if (commit === undefined) return [];
      const read = (name: string) => readFileSync(join(directory, name));
      expect(read("stamp").equals(read("same stamp"))).toBe(true);
      const lines = read("lines").toString().trimEnd().split("\n");
      // Each generation is one commit over all the ones before.
      expect(lines).toHaveLength(commit.generation);
      expect(lines.at(-1)).toContain(commit.nonce);
      rmSync(directory, { recursive: true });
      return lines;
    };
    let seen: string[] = [];
    while (writing) {
      const lines = await linesOf();
      expect(lines.slice(0, seen.length)).toEqual(seen);
      seen = lines;
    }
    await written;
    const all = await linesOf();
    const total = TOGETHER + WRITERS.length * COMMITS;
    expect(all).toHaveLength(total);
    for (const name of WRITERS) {
      const own = all.filter((line) => line.startsWith(name));
      expect(own).toEqual(Array.from({ length: own.length }, (_, index) => `${name} ${index}`));
    }
    for (let generation = 1; generation < total; generation += 5) {
      expect(await linesOf(generation)).toEqual(all.slice(0, generation));
    }
    const winners = new Map<number, string>();
    for (const { name, process } of writers) {
      for (const line of process.said) {
        const [outcome, generation] = line.split(" ");
        if (outcome !== "committed") continue;
        expect(winners.has(Number(generation))).toBe(false);
        winners.set(Number(generation), name);
      }
    }
    expect(winners.size).toBe(total);
    for (const { process } of writers) {
      for (const line of process.said) {
        const [outcome, generation, winner] = line.split(" ");
        if (outcome !== "overtaken") continue;
        expect(winner).toBe(winners.get(Number(generation)));
      }
    }
  });
});
