import { createHash } from "node:crypto";
import type { AgentDefinition } from "@longshore/shared";

const known = new WeakMap<AgentDefinition, string>();

/** Tells definitions apart of which a sandbox can't serve the other: all of it but how many are held warm. */
export function definitionHash(definition: AgentDefinition): string {
  let hash = known.get(definition);
  if (hash === undefined) {
    const { warm: _, ...rest } = definition;
    hash = createHash("sha256").update(JSON.stringify(rest)).digest("hex");
    known.set(definition, hash);
  }
  return hash;
}
