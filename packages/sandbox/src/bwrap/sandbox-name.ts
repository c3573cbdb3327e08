import { createHash } from "node:crypto";

/** What tells one sandbox of bubblewrap from all others on a host. */
export interface SandboxName {
  /** Short hash of the fleet's run directory. */
  readonly runKey: string;
  readonly worker: string;
  readonly nonce: string;
}

const SEPARATOR = "@";

/** @param runDirectory absolute path; two fleets on one host have different ones */
export function runKeyOf(runDirectory: string): string {
  return createHash("sha256").update(runDirectory).digest("hex").slice(0, 12);
}

/** One word for cgroups and markers, at most 206 bytes. */
export function formatSandboxName(name: SandboxName): string {
  return [name.runKey, name.worker, name.nonce].join(SEPARATOR);
}

/** Undefined for anything else. */
export function parseSandboxName(text: string): SandboxName | undefined {
  const [runKey, worker, nonce, ...rest] = text.split(SEPARATOR);
  if (!runKey || !worker || !nonce || rest.length > 0) return undefined;
  return { runKey, worker, nonce };
}
