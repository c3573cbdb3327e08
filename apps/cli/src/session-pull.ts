import { randomBytes } from "node:crypto";
import { mkdir, readdir } from "node:fs/promises";
import { errnoOf, SessionTree, showPath } from "@longshore/shared";
import type { ApiClient } from "./api-client.ts";
import type { FileAnswer } from "./api-schemas.ts";
import { type CommandContext, openClient, openStatusLine } from "./command-context.ts";
import { eachBounded } from "./each-bounded.ts";
import { ApiProtocolError, PullError } from "./errors.ts";
import { isSame, type LocalEntry, readLocalTree } from "./local-tree.ts";
import { ByteCounter, ProgressBar } from "./progress-bar.ts";
import { bytesOf, contentPath, entriesOf, type PartEntry, readFiles, SessionPart } from "./session-files.ts";
import type { GenerationOptions } from "./sessions.ts";

/** Files that are downloaded at once. */
const DOWNLOADS = 16;
/** The owner's own: everything can be written below a directory whose mode forbids it. */
const WHILE_WRITING = 0o700;
/** Half a microsecond, in seconds: put into the middle of it, no rounding makes a time one of the millisecond before. */
const HALF_MICROSECOND = 5e-7;

export interface PullOptions extends GenerationOptions {
  /** A directory of the session, in place of all of it. */
  readonly under?: string;
  /** Over what is in the directory already. */
  readonly update?: boolean;
  /** With `update`: what the session does not have goes. */
  readonly delete?: boolean;
}

/**
 * `longshore sessions pull`: a session's directory as of one generation: bytes, modes, times, links as they
 * are. Whoever wrote the session is not trusted, and neither is the server: nothing is written but below the
 * directory, through no link (`SessionTree`).
 *
 * Into a new or empty directory, over nothing that is there; with `update` into any, where what has the same type, size,
 * mode and time as the session's is left alone, and each other file is replaced whole.
 */
export async function pullSession(
  context: CommandContext,
  sessionId: string,
  directory: string,
  options: PullOptions,
): Promise<void> {
  const client = openClient(context, options);
  const { signal, output } = context;
  const part = new SessionPart(options.under);
  using bar = new ProgressBar(openStatusLine(context), "reading the list of files");
  const { generation, files } = await readFiles(client, sessionId, options.generation, signal, part.under);
  const entries = entriesOf(files, part);
  const local = options.update === true ? await takeDirectory(directory) : await makeEmpty(directory);
  using tree = SessionTree.open(directory);
  const pull = new Pull(client, tree, local, signal);
  const from = (path: Buffer) => contentPath(sessionId, part.full(path), generation);
  const removed = await pull.clear(entries, options.delete === true);
  await pull.run(entries, from, bar);
  const totalBytes = entries.reduce((sum, { file }) => sum + (file.sizeBytes ?? 0), 0);
  const counts = { entries: entries.length, totalBytes, ...pull.written, removed };
  output.result({ sessionId, generation, ...counts, directory }, () => {
    const head = `${entries.length} entries, ${totalBytes} bytes of generation ${generation} in ${directory}\n`;
    if (options.update !== true) return head;
    const { files: changed, bytes } = pull.written;
    return `${head}${changed} files, ${bytes} bytes were written, ${removed} paths removed\n`;
  });
}

/** Makes a directory equal a part of a session. */
class Pull {
  readonly written = { files: 0, bytes: 0 };
  readonly #client: ApiClient;
  readonly #tree: SessionTree;
  readonly #local: Map<string, LocalEntry>;
  readonly #signal: AbortSignal;

  constructor(client: ApiClient, tree: SessionTree, local: readonly LocalEntry[], signal: AbortSignal) {
    this.#client = client;
    this.#tree = tree;
    this.#local = new Map(local.map((entry) => [entry.path.toString("latin1"), entry]));
    this.#signal = signal;
  }

  /** Removes what the session does not have, or refuses what is in the way of what it has; gives how many went. */
  async clear(entries: readonly PartEntry[], removesRest: boolean): Promise<number> {
    const wanted = new Map(entries.map(({ path, file }) => [path.toString("latin1"), file.type]));
    let removed = 0;
    let gone: string | undefined;
    for (const [key, { path, type }] of [...this.#local]) {
      if (gone !== undefined && key.startsWith(gone)) {
        this.#local.delete(key);
        continue;
      }
      const there = wanted.get(key);
      if (there === type || (there === undefined && !removesRest)) continue;
      // A link or file is replaced by another file; only a directory can't be, nor stand in for one.
      if (!removesRest && there !== undefined && (type === "directory" || there === "directory"))
        throw new PullError(`${showPath(path)} is a ${type} here and a ${there} there: --delete replaces it`);
      await this.#tree.remove(path, { recursive: true, signal: this.#signal });
      this.#local.delete(key);
      gone = `${key}/`;
      removed += 1;
    }
    return removed;
  }

  async run(entries: readonly PartEntry[], from: (path: Buffer) => string, bar: ProgressBar): Promise<void> {
    const of = (type: FileAnswer["type"]) => entries.filter(({ file }) => file.type === type);
    const directories = of("directory");
    // Parents come before what is in them: the list is in the order of the paths' bytes.
    for (const { path } of directories) {
      if (this.#find(path) === undefined) await this.#tree.makeDirectory(path, { mode: WHILE_WRITING });
      else await this.#tree.chmod(path, WHILE_WRITING);
    }
    const changed = of("file").filter(({ path, file }) => !this.#has(path, file));
    const bytes = changed.reduce((sum, { file }) => sum + (file.sizeBytes ?? 0), 0);
    const counter = new ByteCounter(bar, "pulling", bytes);
    await eachBounded(changed, DOWNLOADS, ({ path, file }) =>
      this.#pullFile(from(path), path, file, counter),
    );
    for (const { path, file } of of("link")) await this.#makeLink(path, file);
    // Last, and from the deepest: a directory's time changes with what is in it.
    for (const { path, file } of directories.toReversed()) {
      await this.#tree.chmod(path, file.mode);
      await setTime(this.#tree, path, file.modifiedAt);
    }
  }

  #find(path: Buffer): LocalEntry | undefined {
    return this.#local.get(path.toString("latin1"));
  }

  #has(path: Buffer, file: FileAnswer): boolean {
    const local = this.#find(path);
    return local !== undefined && isSame(local, file);
  }

  /** Downloads one file; what stood there is replaced only by the whole of it. */
  async #pullFile(from: string, to: Buffer, file: FileAnswer, counter: ByteCounter): Promise<void> {
    const { mode, sizeBytes = 0, modifiedAt } = file;
    const replaces = this.#find(to) !== undefined;
    const at = replaces ? Buffer.from(`.longshore-pull-${randomBytes(8).toString("hex")}`) : to;
    try {
      let written = 0;
      {
        await using handle = await this.#tree.createFile(at, { mode, exclusive: true });
        for await (const chunk of await this.#client.download(from, this.#signal)) {
          written += chunk.length;
          if (written > sizeBytes) break;
          await handle.writeFile(chunk);
          counter.add(chunk.length);
        }
      }
      if (written !== sizeBytes)
        throw new PullError(
          `${showPath(to)} has ${sizeBytes} bytes, and others came: pull again into a new directory`,
        );
      await setTime(this.#tree, at, modifiedAt);
      if (replaces) await this.#tree.rename(at, to);
      this.written.files += 1;
      this.written.bytes += written;
    } catch (error) {
      if (replaces) await this.#tree.remove(at, { missingOk: true });
      throw error;
    }
  }

  async #makeLink(path: Buffer, link: FileAnswer): Promise<void> {
    if (link.target === undefined) throw new ApiProtocolError("a link without a target");
    if (this.#has(path, link)) return;
    if (this.#find(path) !== undefined) await this.#tree.remove(path);
    await this.#tree.symlink(bytesOf(link.target, link.targetBase64), path);
    await setTime(this.#tree, path, link.modifiedAt);
  }
}

/** Makes the directory, or takes an empty one. */
async function makeEmpty(directory: string): Promise<LocalEntry[]> {
  const entries = await makeOrList(directory);
  if (entries.length > 0)
    throw new PullError(`${directory} is not empty: nothing is overwritten without --update`);
  return [];
}

/** Makes the directory, or takes one as it is. */
async function takeDirectory(directory: string): Promise<readonly LocalEntry[]> {
  await makeOrList(directory);
  return (await readLocalTree(directory)).entries;
}

async function makeOrList(directory: string): Promise<string[]> {
  try {
    await mkdir(directory, { mode: WHILE_WRITING });
    return [];
  } catch (error) {
    if (errnoOf(error) !== "EEXIST")
      throw new PullError(`can't make ${directory}: ${(error as Error).message}`, error);
    return await readdir(directory).catch((cause: unknown) => {
      throw new PullError(`${directory} is no directory that can be read`, cause);
    });
  }
}

async function setTime(tree: SessionTree, path: Buffer, modifiedAt: string): Promise<void> {
  const seconds = Date.parse(modifiedAt) / 1_000 + HALF_MICROSECOND;
  if (!Number.isFinite(seconds)) throw new ApiProtocolError("a time that is none");
  await tree.utimes(path, seconds, seconds);
}
