import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { SetupError } from "./errors.ts";

/** Files of one directory. */
export interface Files {
  readonly directory: string;
  /** Files and directories, relative to it. */
  readonly names: readonly string[];
}

/**
 * A tar of files of several directories, without the tests among them: the same bytes for the same
 * content, with names sorted and without the files' owners and times. Links stay links.
 */
export function archive(sources: readonly Files[]): Readable {
  return startTar(sources).stdout;
}

/** Names the content of an {@link archive} of the same files. */
export async function contentHash(sources: readonly Files[]): Promise<string> {
  const tar = startTar(sources);
  const ended = once(tar, "close");
  const hash = createHash("sha256");
  for await (const chunk of tar.stdout) {
    hash.update(chunk);
  }
  const [status] = await ended;
  if (status !== 0) {
    throw new SetupError("SETUP_COMMAND_FAILED", `tar ended with status ${status}`);
  }
  return hash.digest("hex").slice(0, 12);
}

function startTar(sources: readonly Files[]): ChildProcessByStdio<null, Readable, null> {
  const same = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
  const files = sources.flatMap(({ directory, names }) => ["--directory", directory, ...names]);
  return spawn("tar", ["--create", ...same, "--exclude=*.test.ts", ...files], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}
