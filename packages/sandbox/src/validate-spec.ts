import { isAbsolute, normalize } from "node:path";
import { SandboxSpecError } from "./errors.ts";
import { resolveLimits } from "./limits.ts";
import type { SandboxSpec } from "./sandbox.ts";

const SAFE_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Elsewhere a mount could hide what the sandbox rests on. */
const MOUNTS_BELOW = ["/session/workspace/", "/session/home/"];
const MEMORY_BYTES_MIN = 8 * 1024 ** 2;

/** Whether a worker's id or a nonce can be part of a path, a cgroup's and a container's name. */
export function isSafeName(name: string, maxLength: number): boolean {
  return name.length <= maxLength && SAFE_NAME.test(name);
}

function requirePath(field: string, path: string): void {
  if (!isAbsolute(path) || normalize(path) !== path || path.includes("\0")) {
    throw new SandboxSpecError(field, `an absolute path without "." and "..", not ${JSON.stringify(path)}`);
  }
}

/** Checks what both runtimes rely on. @throws SandboxSpecError that names the field */
export function validateSpec(spec: SandboxSpec): void {
  const { labels } = spec;
  if (!isSafeName(labels.worker, 128)) {
    throw new SandboxSpecError("labels.worker", "letters, digits, _ . and -, at most 128");
  }
  if (!isSafeName(labels.nonce, 64)) {
    throw new SandboxSpecError("labels.nonce", "letters, digits, _ . and -, at most 64");
  }
  if (!Number.isSafeInteger(labels.epoch) || labels.epoch < 0) {
    throw new SandboxSpecError("labels.epoch", "a whole number from 0");
  }
  requirePath("workingDirectory", spec.workingDirectory);
  requirePath("slotDirectory", spec.slotDirectory);
  for (const { source, target } of spec.mounts ?? []) {
    requirePath("mounts.source", source);
    requirePath("mounts.target", target);
    if (!MOUNTS_BELOW.some((directory) => target.startsWith(directory)))
      throw new SandboxSpecError("mounts.target", `below ${MOUNTS_BELOW.join(" or ")}`);
  }
  for (const { path } of spec.access ?? []) if (path !== "") requirePath("access", path);
  if (spec.rootfs !== undefined && spec.rootfs !== "host") requirePath("rootfs", spec.rootfs);
  if (spec.command?.length === 0 || spec.command?.some((word) => word.includes("\0"))) {
    throw new SandboxSpecError("command", "at least one word, none with a NUL");
  }
  for (const [name, value] of Object.entries(spec.env)) {
    if (!ENVIRONMENT_NAME.test(name) || value.includes("\0")) {
      throw new SandboxSpecError(`env.${name.toWellFormed()}`, "not a name, or a value with a NUL");
    }
  }
  for (const [field, id] of Object.entries(spec.user)) {
    if (!Number.isInteger(id) || id < 1 || id > 0xffff_fffe) {
      throw new SandboxSpecError(`user.${field}`, "a whole number from 1: never root");
    }
  }
  const limits = resolveLimits(spec.limits);
  for (const [field, value] of Object.entries(limits)) {
    const whole = field === "cpus" || Number.isSafeInteger(value);
    if (!Number.isFinite(value) || value <= 0 || !whole) {
      throw new SandboxSpecError(`limits.${field}`, `a positive number, not ${value}`);
    }
  }
  if (limits.memoryBytes < MEMORY_BYTES_MIN) {
    throw new SandboxSpecError("limits.memoryBytes", `at least ${MEMORY_BYTES_MIN}`);
  }
  if (limits.cpus < 0.01) throw new SandboxSpecError("limits.cpus", "at least 0.01");
}
