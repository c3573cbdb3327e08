import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import type Dockerode from "dockerode";
import type { DebianBase } from "./debian-base.ts";
import { SetupError } from "./errors.ts";

export interface ImageRecipe {
  /** `name:tag` */
  readonly name: string;
  /** The directory that the builder sees. */
  readonly context: string;
  /** Files and directories of it that the build needs, relative to it. */
  readonly files: readonly string[];
  /** The Dockerfile, relative to the context. */
  readonly dockerfile: string;
  /** The image that it builds on, as its argument `BASE`. */
  readonly base: string;
}

/** Gives an engine the base as an image, named by its content, unless it has it. */
export async function importBase(engine: Dockerode, base: DebianBase): Promise<string> {
  const repository = "longshore/base";
  const name = `${repository}:${base.key}`;
  if (!(await hasImage(engine, name))) {
    const progress = await engine.importImage(createReadStream(base.tar), {
      repo: repository,
      tag: base.key,
    });
    await finished(progress, name);
  }
  return name;
}

/** Builds an image, with the engine's own cache, without a registry and without network. */
export async function buildImage(engine: Dockerode, recipe: ImageRecipe): Promise<void> {
  const archive = spawn(
    "tar",
    ["--create", "--directory", recipe.context, "--", recipe.dockerfile, ...recipe.files],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  const progress = await engine.buildImage(archive.stdout, {
    t: recipe.name,
    dockerfile: recipe.dockerfile,
    buildargs: { BASE: recipe.base },
    networkmode: "none",
  });
  await finished(progress, recipe.name);
}

export async function hasImage(engine: Dockerode, name: string): Promise<boolean> {
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
