import { isUtf8 } from "node:buffer";
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { SESSION_DIRECTORIES } from "@longshore/sandbox";
import { compilePatterns } from "@longshore/session-store";
import { LongshoreError, OPERATION_PATHS_MAX, showPath } from "@longshore/shared";
import type { ApiClient } from "./api-client.ts";
import { type CommandContext, type GlobalOptions, openClient, openStatusLine } from "./command-context.ts";
import { eachBounded } from "./each-bounded.ts";
import { ApiError, PushError } from "./errors.ts";
import { isSame, type LocalEntry, readLocalTree } from "./local-tree.ts";
import { printableLine } from "./printable.ts";
import { ByteCounter, ProgressBar } from "./progress-bar.ts";
import { entriesOf, type PartEntry, readFiles, SessionPart, sessionPath } from "./session-files.ts";
import { type AppliedOperation, runOperation } from "./session-operation.ts";

/** Files that are hashed at once. */
const HASHES = 4;
/** Files that are uploaded at once. */
const UPLOADS = 16;
/** Up to this many bytes a file is sent from memory. */
const SMALL_BYTES = 1024 ** 2;
/** How often the server may say that contents are missing which were just uploaded. */
const ROUNDS = 3;

export interface PushOptions extends GlobalOptions {
  /** A directory of the session, in place of all of it. */
  readonly under?: string;
  /** Patterns of paths below the local directory that are left out. */
  readonly exclude: readonly string[];
  /** What the directory does not have goes. */
  readonly delete?: boolean;
  /** Only say what would be done. */
  readonly dryRun?: boolean;
  /** Seconds. */
  readonly timeout: number;
}

type PathText = string | { readonly base64: string };

/** A local file that is to be sent. */
interface Sent {
  readonly entry: LocalEntry;
  readonly sha256: string;
}

/**
 * `longshore sessions push`: makes a session's directory, or a part of it, equal a local one by one commit, in order with
 * the session's messages. Only what differs by type, size, mode or time is sent, and content that the server has is not
 * sent again. What is in the session alone stays, unless it is to be deleted.
 */
export async function pushSession(
  context: CommandContext,
  sessionId: string,
  directory: string,
  options: PushOptions,
): Promise<void> {
  const client = openClient(context, options);
  const { signal, output } = context;
  const part = new SessionPart(options.under);
  using bar = new ProgressBar(openStatusLine(context), "comparing");
  const isExcluded = compilePatterns(options.exclude) ?? (() => false);
  const local = await readLocalTree(directory, isExcluded).catch((error: unknown) => {
    throw new PushError(`can't read ${directory}: ${(error as Error).message}`, error);
  });
  const { files } = await readFiles(client, sessionId, undefined, signal, part.under);
  const remote = entriesOf(files, part).filter(({ path }) => !isExcluded(path.toString("latin1")));
  const plan = planPush(local.entries, remote, part, options.delete === true);
  const count = plan.set.length + plan.remove.length;
  if (count > OPERATION_PATHS_MAX)
    throw new PushError(
      `${count} paths differ, and one push takes at most ${OPERATION_PATHS_MAX}: push parts with --under`,
    );
  const sent = await hashAll(directory, plan.set, bar);
  const counts = {
    set: plan.set.length,
    removed: plan.remove.length,
    leftOut: local.leftOut,
    totalBytes: sent.reduce((sum, { entry }) => sum + entry.sizeBytes, 0),
  };
  if (count === 0 || options.dryRun === true) {
    const paths = { set: plan.set.map(({ path }) => text(part.full(path))), remove: plan.remove.map(text) };
    output.result({ sessionId, ...counts, ...(options.dryRun === true ? paths : {}) }, () =>
      count === 0 ? "nothing to push\n" : describePlan(paths.set, paths.remove),
    );
    return;
  }
  const applied = await send(
    client,
    sessionId,
    directory,
    manifestOf(plan, sent, part),
    sent,
    options,
    bar,
    signal,
  );
  output.result(
    { sessionId, generation: applied.generation, messageId: applied.messageId, ...counts },
    () =>
      `generation ${applied.generation}: ${counts.set} paths set (${counts.totalBytes} bytes), ${counts.removed} removed\n`,
  );
}

interface PushPlan {
  readonly set: readonly LocalEntry[];
  /** In the session, from its directory. */
  readonly remove: readonly Buffer[];
}

function planPush(
  local: readonly LocalEntry[],
  remote: readonly PartEntry[],
  part: SessionPart,
  removesRest: boolean,
): PushPlan {
  const there = new Map(remote.map(({ path, file }) => [path.toString("latin1"), file]));
  const here = new Map(local.map((entry) => [entry.path.toString("latin1"), entry]));
  const remove: Buffer[] = [];
  let gone: string | undefined;
  for (const { path, file } of remote) {
    const key = path.toString("latin1");
    if (gone !== undefined && key.startsWith(gone)) continue;
    const entry = here.get(key);
    if (entry === undefined ? !removesRest : entry.type === file.type) continue;
    const full = part.full(path);
    // The worker makes these, whatever a session holds.
    if (isSessionDirectory(full)) continue;
    if (entry !== undefined && file.type === "directory" && !removesRest)
      throw new PushError(`${showPath(full)} is a directory in the session: --delete replaces it`);
    remove.push(full);
    gone = `${key}/`;
  }
  const set = local.filter(({ path, type }) => {
    if (type === "directory" && isSessionDirectory(part.full(path))) return false;
    const file = there.get(path.toString("latin1"));
    const entry = here.get(path.toString("latin1"));
    return file === undefined || entry === undefined || !isSame(entry, file);
  });
  return { set, remove };
}

function isSessionDirectory(path: Buffer): boolean {
  return SESSION_DIRECTORIES.some((name) => path.equals(Buffer.from(name)));
}

/** Reads every file that is sent once, for its hash. */
async function hashAll(directory: string, entries: readonly LocalEntry[], bar: ProgressBar): Promise<Sent[]> {
  const files = entries.filter(({ type }) => type === "file");
  const counter = new ByteCounter(
    bar,
    "reading",
    files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  );
  const sent: Sent[] = [];
  await eachBounded(files, HASHES, async (entry) => {
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of createReadStream(at(directory, entry)) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bytes += chunk.length;
      counter.add(chunk.length);
    }
    if (bytes !== entry.sizeBytes) throw changed(entry);
    sent.push({ entry, sha256: hash.digest("hex") });
  });
  return sent;
}

function manifestOf({ set, remove }: PushPlan, sent: readonly Sent[], part: SessionPart): object {
  const hashes = new Map(sent.map(({ entry, sha256 }) => [entry, sha256]));
  const common = ({ path, modifiedMs }: LocalEntry) => ({
    path: text(part.full(path)),
    modifiedAt: new Date(modifiedMs).toISOString(),
  });
  const of = (type: LocalEntry["type"]) => set.filter((entry) => entry.type === type);
  return {
    set: of("file").map((entry) => ({
      ...common(entry),
      ...{ mode: entry.mode, sizeBytes: entry.sizeBytes, sha256: hashes.get(entry) },
    })),
    directories: of("directory").map((entry) => ({ ...common(entry), mode: entry.mode })),
    links: of("link").map((entry) => ({ ...common(entry), target: text(entry.target ?? Buffer.alloc(0)) })),
    remove: remove.map(text),
  };
}

/** Asks for the push; what the server says that it misses is uploaded before it is asked again. */
async function send(
  client: ApiClient,
  sessionId: string,
  directory: string,
  manifest: object,
  sent: readonly Sent[],
  options: PushOptions,
  bar: ProgressBar,
  signal: AbortSignal,
): Promise<AppliedOperation> {
  const byHash = new Map(sent.map((file) => [file.sha256, file]));
  const key = randomUUID();
  for (let round = 1; ; round++) {
    try {
      bar.show("waiting for the session");
      return await runOperation(client, sessionId, "push", manifest, key, options, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "UPLOADS_MISSING" || round === ROUNDS) throw error;
      const missing = error.missing.flatMap((sha256) => byHash.get(sha256) ?? []);
      await upload(client, sessionId, directory, missing, bar, signal);
    }
  }
}

async function upload(
  client: ApiClient,
  sessionId: string,
  directory: string,
  files: readonly Sent[],
  bar: ProgressBar,
  signal: AbortSignal,
): Promise<void> {
  const counter = new ByteCounter(
    bar,
    "pushing",
    files.reduce((sum, { entry }) => sum + entry.sizeBytes, 0),
  );
  await eachBounded(files, UPLOADS, async ({ entry, sha256 }) => {
    const path = at(directory, entry);
    const body =
      entry.sizeBytes <= SMALL_BYTES
        ? await readFile(path)
        : (Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>);
    try {
      const answer = await client.put(`${sessionPath(sessionId)}/uploads/${sha256}`, body, { signal });
      await answer.body?.cancel();
    } catch (error) {
      if (error instanceof LongshoreError && error.code === "DIGEST_MISMATCH") throw changed(entry);
      throw error;
    }
    counter.add(entry.sizeBytes);
  });
}

function describePlan(set: readonly PathText[], remove: readonly PathText[]): string {
  const show = (path: PathText) => (typeof path === "string" ? path : Buffer.from(path.base64, "base64url"));
  const lines = [
    ...set.map((path) => `set     ${printableLine(showPath(show(path)))}\n`),
    ...remove.map((path) => `remove  ${printableLine(showPath(show(path)))}\n`),
  ];
  return lines.join("");
}

function at(directory: string, { path }: LocalEntry): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), path]);
}

function text(bytes: Buffer): PathText {
  return isUtf8(bytes) ? bytes.toString("utf8") : { base64: bytes.toString("base64url") };
}

function changed({ path }: LocalEntry): PushError {
  return new PushError(`${showPath(path)} was changed while it was pushed: push again`);
}
