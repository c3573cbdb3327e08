import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { createInterface } from "node:readline";
import type Dockerode from "dockerode";
import { archive, contentHash, type Files } from "./archive.ts";
import type { DebianBase } from "./debian-base.ts";
import { SetupError } from "./errors.ts";
import { repositoryRoot } from "./paths.ts";

export interface ImageRecipe {
  /** The image's name without a tag. */
  readonly repository: string;
  /** The Dockerfile, relative to the clone or absolute. */
  readonly dockerfile: string;
  /** What else the builder sees. */
  readonly context: readonly Files[];
  /** Paths of the context that the builder does not see, in a `.dockerignore`. @default the clone's */
  readonly ignore?: Files;
  /** Of what the Dockerfile runs. @default "none" */
  readonly network?: "none" | "host";
}

/**
 * Builds an image on a base, without a registry and without network but what the recipe says, unless the engine has it.
 *
 * @returns its name, whose tag is a hash of its content, so that clones that share an engine don't take
 * each other's; it gets the tag `dev` too, which documents and examples use.
 */
export async function buildImage(engine: Dockerode, base: DebianBase, recipe: ImageRecipe): Promise<string> {
  const { repository, dockerfile } = recipe;
  // At the context's root, where the builder takes it away before it compares contexts: images of one
  // context but different Dockerfiles share its layer.
  const instructions = {
    directory: resolve(repositoryRoot, dirname(dockerfile)),
    names: [basename(dockerfile)],
  };
  const rules = recipe.ignore ?? { directory: repositoryRoot, names: [".dockerignore"] };
  const context = [instructions, rules, ...recipe.context];
  const content = `${base.key} ${await contentHash(context)}`;
  const name = `${repository}:${createHash("sha256").update(content).digest("hex").slice(0, 12)}`;
  if (!(await hasImage(engine, name))) {
    const baseName = await importBase(engine, base);
    const progress = await engine.buildImage(archive(context), {
      t: name,
      dockerfile: basename(dockerfile),
      buildargs: { BASE: baseName },
      networkmode: recipe.network ?? "none",
    });
    await finished(progress, name);
  }
  await engine.getImage(name).tag({ repo: repository, tag: "dev" });
  return name;
}

/** Gives an engine the base as an image, named by its content, unless it has it. */
async function importBase(engine: Dockerode, base: DebianBase): Promise<string> {
  const repository = "longshore/base";
  const name = `${repository}:${base.key}`;
  if (!(await hasImage(engine, name))) {
    const progress = await engine.importImage(createReadStream(base.tar), {
      // Podman does not heed a tag by itself.
      repo: name,
    });
    await finished(progress, name);
  }
  return name;
}

async function hasImage(engine: Dockerode, name: string): Promise<boolean> {
  try {
    await engine.getImage(name).inspect();
    return true;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) {
      return false;
    }
    throw error;
  }
}

/** What an engine reports while it works: one object a line, the failure among them. */
interface Progress {
  readonly stream?: string;
  readonly error?: string;
}

async function finished(progress: NodeJS.ReadableStream, name: string): Promise<void> {
  const lines: string[] = [];
  for await (const line of createInterface(progress)) {
    const event = JSON.parse(line) as Progress;
    lines.push(event.stream ?? "");
    if (event.error !== undefined) {
      const output = lines.slice(-20).join("");
      throw new SetupError("SETUP_COMMAND_FAILED", `can't make the image ${name}: ${event.error}\n${output}`);
    }
  }
}
