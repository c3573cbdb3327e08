import { expect, test } from "vitest";
import { type SandboxSpec, SandboxSpecError } from "./index.ts";
import { validateSpec } from "./validate-spec.ts";

const GOOD: SandboxSpec = {
  labels: { host: "h", worker: "w-1", tenant: "t", sessionId: "s", epoch: 1, nonce: "n_1.x" },
  env: { A: "b" },
  workingDirectory: "/session/workspace",
  slotDirectory: "/run/longshore/workers/w-1/slots/n_1.x",
  user: { uid: 200_000, gid: 200_000 },
  limits: { memoryBytes: 3 * 1024 ** 3, cpus: 0.5, pids: 64 },
};

test("a good specification passes", () => {
  expect(() => validateSpec(GOOD)).not.toThrow();
});

test.each<[string, Partial<SandboxSpec>]>([
  ["labels.worker", { labels: { ...GOOD.labels, worker: "../w" } }],
  ["labels.nonce", { labels: { ...GOOD.labels, nonce: "a@b" } }],
  ["labels.epoch", { labels: { ...GOOD.labels, epoch: 1.5 } }],
  ["workingDirectory", { workingDirectory: "workspace" }],
  ["slotDirectory", { slotDirectory: "/run/../etc" }],
  ["rootfs", { rootfs: "rootfs" }],
  ["command", { command: [] }],
  ["command", { command: ["a\0b"] }],
  ["env.A=B", { env: { "A=B": "c" } }],
  ["env.A", { env: { A: "b\0c" } }],
  ["user.uid", { user: { uid: 0, gid: 1 } }],
  ["user.gid", { user: { uid: 1, gid: 0 } }],
  ["limits.memoryBytes", { limits: { ...GOOD.limits, memoryBytes: 1 << 31 } }],
  ["limits.memoryBytes", { limits: { ...GOOD.limits, memoryBytes: 1024 } }],
  ["limits.cpus", { limits: { ...GOOD.limits, cpus: 0 } }],
  ["limits.pids", { limits: { ...GOOD.limits, pids: 1.5 } }],
  ["limits.tmpBytes", { limits: { ...GOOD.limits, tmpBytes: Number.NaN } }],
])("%s is named when it is wrong", (field, change) => {
  try {
    validateSpec({ ...GOOD, ...change });
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(SandboxSpecError);
    expect((error as SandboxSpecError).field).toBe(field);
  }
});
