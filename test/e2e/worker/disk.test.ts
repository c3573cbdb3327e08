import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet } from "../../support/fleet.ts";

/** Bubblewrap's session directories are file systems of their own here; Docker's engine is not known to see such: the worker looks. */
describe.each(["bwrap", "docker"] as const)("%s", (runtime) => {
  let fleet: Fleet;
  let api: Api;
  let worker: AppProcess;

  beforeAll(async () => {
    fleet = await Fleet.start({
      runtime,
      agent: {
        limits: { memory: "512MiB", cpus: 2, pids: 128, disk: "8MiB", files: 500 },
        exclude: ["workspace/cache/**"],
        // No checkpoint tells of it, and no other attempt.
        checkpoint: "0s",
        retry: { attempts: 1 },
        linger: "0s",
      },
    });
    [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
  });
  afterAll(() => fleet[Symbol.asyncDispose]());

  it("a turn that fills the disk fails, and the next one finds what was there before", async () => {
    expect(await api.ask("a", "1", "$ echo kept > kept")).toMatchObject({ state: "answered" });
    // What is there when the turn has ended is little, and so it is when the worker looks for the first time.
    const full =
      "$ sleep 3; for i in $(seq 100); do head -c 1048576 /dev/zero >> file 2>/dev/null || exit 0; sleep 0.05; done; rm file";
    expect(await api.ask("a", "2", full)).toMatchObject({ state: "dead", error: { code: "QUOTA_EXCEEDED" } });
    const next = await api.ask("a", "3", "$ ls; cat kept");
    expect(next).toMatchObject({ state: "answered", replies: [{ text: "kept\nkept\n" }] });
  });

  it("what is not stored is bounded, too", async () => {
    const full =
      "$ mkdir cache; while head -c 1048576 /dev/zero >> cache/file 2>/dev/null; do sleep 0.05; done; rm cache/file; echo full";
    const answer = await api.ask("b", "1", full);
    // Where the kernel says that it is full, it is the agent's to deal with.
    if (runtime === "bwrap")
      expect(answer).toMatchObject({ state: "answered", replies: [{ text: "full\n" }] });
    else expect(answer).toMatchObject({ state: "dead", error: { code: "QUOTA_EXCEEDED" } });
    expect(await api.ask("b", "2", "$ echo next")).toMatchObject({ state: "answered" });
  });

  it("nothing stays mounted", async () => {
    expect(await worker.stop()).toBe(0);
    expect(await readFile("/proc/self/mountinfo", "utf8")).not.toContain(fleet.directory);
  });
});
