import { mkdir, readdir } from "node:fs/promises";
import { errnoOf, SessionTree, showPath } from "@longshore/shared";
import type { ApiClient } from "./api-client.ts";
import type { FileAnswer } from "./api-schemas.ts";
import { type CommandContext, openClient } from "./command-context.ts";
import { ApiProtocolError, PullError } from "./errors.ts";
import { bytesOf, contentPath, readFiles } from "./session-files.ts";
import type { GenerationOptions } from "./sessions.ts";

/** Files that are downloaded at once. */
const DOWNLOADS = 8;
/** The owner's own: everything can be written below a directory whose mode forbids it. */
const WHILE_WRITING = 0o700;

/**
 * `longshore sessions pull`: a session's directory as of one generation: bytes, modes, times, links as they
 * are. Whoever wrote the session is not trusted, and neither is the server: nothing is written but below the
 * directory, through no link (`SessionTree`), over nothing that is there.
 */
export async function pullSession(
  context: CommandContext,
  sessionId: string,
  directory: string,
  options: GenerationOptions,
): Promise<void> {
  const client = openClient(context, options);
  const { signal, output } = context;
  const { generation, files } = await readFiles(client, sessionId, options.generation, signal);
  await makeEmpty(directory);
  using tree = SessionTree.open(directory);
  const of = (type: FileAnswer["type"]) => files.filter((file) => file.type === type);
  const directories = of("directory");
  // Parents come before what is in them: the list is in the order of the paths' bytes.
  for (const { path, pathBase64 } of directories)
    await tree.makeDirectory(bytesOf(path, pathBase64), { mode: WHILE_WRITING });
  let totalBytes = 0;
  await eachBounded(of("file"), DOWNLOADS, async (file) => {
    const sizeBytes = await pullFile(client, tree, contentPathOf(sessionId, file, generation), file, signal);
    totalBytes += sizeBytes;
  });
  for (const link of of("link")) {
    if (link.target === undefined) throw new ApiProtocolError("a link without a target");
    const path = bytesOf(link.path, link.pathBase64);
    await tree.symlink(bytesOf(link.target, link.targetBase64), path);
    await setTime(tree, path, link.modifiedAt);
  }
  // Last, and from the deepest: a directory's time changes with what is in it.
  for (const { path, pathBase64, mode, modifiedAt } of directories.toReversed()) {
    const bytes = bytesOf(path, pathBase64);
    await tree.chmod(bytes, mode);
    await setTime(tree, bytes, modifiedAt);
  }
  const result = { sessionId, generation, entries: files.length, totalBytes, directory };
  output.result(
    result,
    () => `${files.length} entries, ${totalBytes} bytes of generation ${generation} in ${directory}\n`,
  );
}

/** Makes the directory, or takes an empty one. */
async function makeEmpty(directory: string): Promise<void> {
  try {
    await mkdir(directory, { mode: WHILE_WRITING });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST")
      throw new PullError(`can't make ${directory}: ${(error as Error).message}`, error);
    const entries = await readdir(directory).catch((cause: unknown) => {
      throw new PullError(`${directory} is no directory that can be read`, cause);
    });
    if (entries.length > 0) throw new PullError(`${directory} is not empty: nothing is overwritten`);
  }
}

function contentPathOf(sessionId: string, { path, pathBase64 }: FileAnswer, generation: number): string {
  return contentPath(sessionId, bytesOf(path, pathBase64), generation);
}

/** Downloads one file; gives its size. */
async function pullFile(
  client: ApiClient,
  tree: SessionTree,
  from: string,
  { path, pathBase64, mode, sizeBytes = 0, modifiedAt }: FileAnswer,
  signal: AbortSignal,
): Promise<number> {
  const to = bytesOf(path, pathBase64);
  let written = 0;
  {
    await using handle = await tree.createFile(to, { mode, exclusive: true });
    for await (const chunk of await client.download(from, signal)) {
      written += chunk.length;
      if (written > sizeBytes) break;
      await handle.writeFile(chunk);
    }
  }
  if (written !== sizeBytes)
    throw new PullError(
      `${showPath(to)} has ${sizeBytes} bytes, and others came: pull again into a new directory`,
    );
  await setTime(tree, to, modifiedAt);
  return written;
}

async function setTime(tree: SessionTree, path: Buffer, modifiedAt: string): Promise<void> {
  const seconds = Date.parse(modifiedAt) / 1_000;
  if (!Number.isFinite(seconds)) throw new ApiProtocolError("a time that is none");
  await tree.utimes(path, seconds, seconds);
}

/** Does something for each, so many at once; the first failure ends it, once those begun have ended. */
async function eachBounded<T>(
  items: readonly T[],
  limit: number,
  operation: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  let failed = false;
  const work = async () => {
    for (const item of queue) {
      if (failed) return;
      await operation(item).catch((error: unknown) => {
        failed = true;
        throw error;
      });
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: limit }, work));
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}
