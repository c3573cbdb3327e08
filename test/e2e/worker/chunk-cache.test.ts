import { stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

async function hitBytes(worker: AppProcess): Promise<number> {
  const { metricsUrl } = await worker.line(({ msg }) => msg === "worker ready");
  const metrics = await (await fetch(`${metricsUrl}/metrics`)).text();
  return Number(/^longshore_chunk_cache_bytes_total\{event="hit"\} (\d+)/m.exec(metrics)?.[1] ?? 0);
}

it("what one worker of a host committed, the next one need not fetch", async () => {
  await using fleet = await Fleet.start({ agent: { linger: "0s" } });
  const { api } = await fleet.startDispatcher();
  const first = await fleet.startWorker();
  // More than travels in a commit record.
  await api.ask("c", "1", "$ head -c 3000000 /dev/urandom > noise; sha256sum noise > sum");
  // It stores what waits to be cached before it ends.
  await first.stop();
  const second = await fleet.startWorker();
  const answer = await api.ask("c", "2", "$ sha256sum -c sum");
  expect(answer.replies?.map(({ text }) => text)).toEqual(["noise: OK\n"]);
  expect(await hitBytes(second)).toBeGreaterThanOrEqual(3_000_000);
});

it("of size 0 is none", async () => {
  await using fleet = await Fleet.start({ agent: { linger: "0s" }, worker: { chunkCache: "0B" } });
  const { api } = await fleet.startDispatcher();
  await fleet.startWorker();
  await api.ask("c", "1", "$ head -c 3000000 /dev/urandom > noise");
  expect((await api.ask("c", "2", "$ wc -c < noise")).replies?.map(({ text }) => text)).toEqual([
    "3000000\n",
  ]);
  await expect(stat(join(fleet.environment.LONGSHORE_RUN_DIR as string, "chunk-cache"))).rejects.toThrow(
    "ENOENT",
  );
});
