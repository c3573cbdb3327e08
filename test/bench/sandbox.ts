import { ScratchDirectory } from "../../infra/setup/scratch-directory.ts";
import { required } from "./required.ts";
import type { Benchmark } from "./row.ts";
import { measureBoot } from "./sandbox/boot.ts";
import { measureManyActivations } from "./sandbox/many-activations.ts";
import { measureUnreadOutput } from "./sandbox/unread-output.ts";

/** What a sandbox costs its host: memory for what nobody reads, time beyond the agent's own, and many side by side. */
export const benchmark: Benchmark = async function* (wants) {
  await using scratch = await ScratchDirectory.create();
  const rootfs = required("LONGSHORE_TEST_ROOTFS", "sandbox");
  const [engine, image] = [required("DOCKER_HOST", "sandbox"), required("LONGSHORE_TEST_IMAGE", "sandbox")];
  // First: what the others leave in this process' memory makes each fork of it slower, by some 2 ms a start.
  if (wants("boot")) yield* measureBoot(scratch.path, rootfs);
  if (wants("unread")) yield* measureUnreadOutput({ directory: scratch.path, rootfs, engine, image });
  if (wants("many")) yield* measureManyActivations(scratch.path, rootfs);
};
