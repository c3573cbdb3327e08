import { skillPrefix } from "./keys.ts";
import { openObject, type StoredObject } from "./plain-objects.ts";
import type { StoreContext } from "./store-context.ts";
import { listAll } from "./store-listing.ts";

/** A version of a skill: files that agents are shown, put into the store by their operator, and never changed. */
export interface SkillRef {
  readonly id: string;
  readonly version: string;
}

/** A file of a skill. */
export interface SkillFile {
  /** Whatever whoever put it there chose: not checked. */
  readonly path: string;
  readonly sizeBytes: number;
}

/** The files of a skill in the order of their paths; none where there is no such version. @throws BadStoreNameError */
export async function* listSkill(
  context: StoreContext,
  skill: SkillRef,
  signal: AbortSignal | undefined,
): AsyncGenerator<SkillFile> {
  const prefix = skillPrefix(skill.id, skill.version);
  for await (const { objects } of listAll(context, prefix, signal)) {
    for (const { key, sizeBytes } of objects) yield { path: key.slice(prefix.length), sizeBytes };
  }
}

/** @throws ObjectNotFoundError */
export async function openSkillFile(
  context: StoreContext,
  skill: SkillRef,
  path: string,
  signal: AbortSignal | undefined,
): Promise<StoredObject> {
  return await openObject(context.backend, `${skillPrefix(skill.id, skill.version)}${path}`, { signal });
}
