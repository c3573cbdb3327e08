// biome-ignore-all lint/style/noRestrictedImports: what is installed here is seen by sandboxes, but can't be written by any
import { createWriteStream } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { SandboxMount } from "@longshore/sandbox";
import type { SessionStore, SkillFile, SkillRef } from "@longshore/session-store";
import { type AgentDefinition, errnoOf } from "@longshore/shared";
import { SkillError } from "./errors.ts";

/** Most files of a skill, and most bytes of all of them. */
const FILES_MAX = 2_000;
const BYTES_MAX = 256 * 1024 * 1024;

/** What was being installed so long ago was cut off, in ms. */
const STAGING_MAX_AGE_MS = 3_600_000;
const STAGING = ".staging-";

/**
 * The skills of a host: each version is fetched from the object store once, by whichever worker needs it first, and
 * stays. A version that is there is whole: it gets its name when it is.
 */
export class SkillCache {
  readonly #store: Pick<SessionStore, "listSkill" | "openSkillFile">;
  readonly #directory: string;
  readonly #installing = new Map<string, Promise<void>>();

  /** @param directory of the host, shared by its workers; sandboxes' users can pass it */
  constructor(store: Pick<SessionStore, "listSkill" | "openSkillFile">, directory: string) {
    this.#store = store;
    this.#directory = directory;
  }

  /** What shows an agent its skills. @throws SkillError; errors of the store and of `node:fs` */
  async mountsOf({ skills }: Pick<AgentDefinition, "skills">): Promise<SandboxMount[]> {
    return await Promise.all(
      skills.map(async (skill) => ({
        source: await this.#provide(skill),
        target: skill.target,
        readOnly: true,
      })),
    );
  }

  async #provide({ id, version }: SkillRef): Promise<string> {
    const directory = join(this.#directory, id, version);
    if (await exists(directory)) return directory;
    const installing =
      this.#installing.get(directory) ??
      this.#install({ id, version }, directory).finally(() => this.#installing.delete(directory));
    this.#installing.set(directory, installing);
    await installing;
    return directory;
  }

  async #install(skill: SkillRef, directory: string): Promise<void> {
    const files = await this.#filesOf(skill);
    await mkdir(dirname(directory), { recursive: true });
    await this.#removeStale();
    const staging = await mkdtemp(join(this.#directory, STAGING));
    try {
      for (const { path } of files) {
        const target = join(staging, path);
        await mkdir(dirname(target), { recursive: true });
        const content = await this.#store.openSkillFile(skill, path);
        // Scripts among them are to be run; an object store keeps no modes.
        await pipeline(content.stream(), createWriteStream(target, { flags: "wx", mode: 0o555 }));
      }
      await chmod(staging, 0o755);
      await rename(staging, directory);
    } catch (error) {
      // Another worker of this host was faster.
      if (!["EEXIST", "ENOTEMPTY"].includes(errnoOf(error) ?? "") || !(await exists(directory))) throw error;
    } finally {
      // biome-ignore lint/plugin: no sandbox ever saw it
      await rm(staging, { recursive: true, force: true });
    }
  }

  /** @throws SkillError where there are none, too many, or some that can't be files of one directory */
  async #filesOf(skill: SkillRef): Promise<SkillFile[]> {
    const files: SkillFile[] = [];
    let bytes = 0;
    for await (const file of this.#store.listSkill(skill)) {
      // Of consoles that show prefixes as directories.
      if (file.path === "" || (file.path.endsWith("/") && file.sizeBytes === 0)) continue;
      const shown = JSON.stringify(file.path.slice(0, 200));
      if (!isSafePath(file.path)) throw new SkillError("SKILL_REFUSED", skill, `has the file ${shown}`);
      bytes += file.sizeBytes;
      files.push(file);
      if (files.length > FILES_MAX || bytes > BYTES_MAX) {
        const reason = `has more than ${FILES_MAX} files or ${BYTES_MAX} bytes`;
        throw new SkillError("SKILL_REFUSED", skill, reason);
      }
    }
    // An object store has no directories, so both may be there.
    const paths = new Set(files.map(({ path }) => path));
    for (const { path } of files) {
      for (let end = path.indexOf("/"); end !== -1; end = path.indexOf("/", end + 1)) {
        const parent = path.slice(0, end);
        if (!paths.has(parent)) continue;
        const reason = `has ${JSON.stringify(parent.slice(0, 200))} as a file and as a directory`;
        throw new SkillError("SKILL_REFUSED", skill, reason);
      }
    }
    if (files.length > 0) return files;
    const place = `skills/${skill.id}/${skill.version}/`;
    throw new SkillError("SKILL_MISSING", skill, `is not in the object store (${place})`);
  }

  async #removeStale(): Promise<void> {
    for (const name of await readdir(this.#directory)) {
      if (!name.startsWith(STAGING)) continue;
      const path = join(this.#directory, name);
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
      // biome-ignore lint/plugin: no sandbox ever saw it
      if (mtimeMs < Date.now() - STAGING_MAX_AGE_MS) await rm(path, { recursive: true, force: true });
    }
  }
}

function isSafePath(path: string): boolean {
  const isSafeName = (name: string) =>
    name !== "" && name !== "." && name !== ".." && Buffer.byteLength(name) <= 255;
  return Buffer.byteLength(path) <= 1_024 && !path.includes("\0") && path.split("/").every(isSafeName);
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
