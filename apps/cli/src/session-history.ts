import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { sessionPathOfApi } from "@longshore/shared";
import type { z } from "zod";
import {
  acceptedSchema,
  diffPageSchema,
  forkSchema,
  generationListSchema,
  type generationSchema,
} from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { UsageError } from "./errors.ts";
import { columns } from "./output.ts";
import { printableLine } from "./printable.ts";
import { sessionPath } from "./session-files.ts";
import { awaitApplied, runOperation } from "./session-operation.ts";

/** Pages of generations and of changes hold at most so many. */
const GENERATIONS_PAGE = 100;
const CHANGES_PAGE = 10_000;

type Generation = z.output<typeof generationSchema>;
type Change = z.output<typeof diffPageSchema>["changes"][number];

/** `longshore sessions log`: a session's generations, newest first: when, by whom, for which messages, what changed. */
export async function showLog(
  context: CommandContext,
  sessionId: string,
  options: GlobalOptions & { readonly limit: number },
): Promise<void> {
  const client = openClient(context, options);
  const found: Generation[] = [];
  for (let before: number | undefined; found.length < options.limit; ) {
    const limit = Math.min(GENERATIONS_PAGE, options.limit - found.length);
    const query = new URLSearchParams({ limit: String(limit) });
    if (before !== undefined) query.set("before", String(before));
    const path = `${sessionPath(sessionId)}/generations?${query}`;
    const { generations } = await client.get(path, generationListSchema, { signal: context.signal });
    found.push(...generations);
    before = generations.at(-1)?.generation;
    if (generations.length < limit) break;
  }
  context.output.result(found, () => columns(found.map(describeGeneration)));
}

function describeGeneration(commit: Generation): string[] {
  const { changed, ends } = commit;
  return [
    String(commit.generation),
    commit.time,
    commit.kind,
    changed === undefined ? "many changes" : `+${changed.set} -${changed.removed}`,
    `${commit.entries} entries`,
    `${commit.totalBytes} bytes`,
    printableLine(commit.worker),
    ends.map(({ messageId, outcome }) => `${messageId} ${outcome}`).join(", "),
  ];
}

const SIGNS = { added: "A", removed: "D", changed: "M" } as const;

/** `longshore sessions diff`: what is different between two generations. */
export async function showDiff(
  context: CommandContext,
  sessionId: string,
  options: GlobalOptions & { readonly from?: number; readonly to?: number },
): Promise<void> {
  const client = openClient(context, options);
  const changes: Change[] = [];
  let { from, to } = options;
  let cursor: string | undefined;
  do {
    const query = new URLSearchParams({ limit: String(CHANGES_PAGE) });
    if (from !== undefined) query.set("from", String(from));
    if (to !== undefined) query.set("to", String(to));
    if (cursor !== undefined) query.set("cursor", cursor);
    const page = await client.get(`${sessionPath(sessionId)}/diff?${query}`, diffPageSchema, {
      signal: context.signal,
    });
    for (const change of page.changes) changes.push(change);
    // Of one pair of generations, also when newer ones come meanwhile.
    ({ from, cursor } = page);
    to = page.to === 0 ? undefined : page.to;
  } while (cursor !== undefined);
  context.output.result({ from, to, changes }, () => columns(changes.map(describeChange)));
}

function describeChange({ path, change, what, before, after }: Change): string[] {
  const size = (file: Change["after"]) =>
    file?.sizeBytes === undefined ? (file?.type ?? "") : `${file.sizeBytes}`;
  const sizes = change === "changed" ? `${size(before)} → ${size(after)}` : size(after ?? before);
  return [SIGNS[change], printableLine(path), sizes, (what ?? []).join(", ")];
}

/** `longshore sessions rollback`: the files of an earlier generation again, as a new one. */
export async function rollBack(
  context: CommandContext,
  sessionId: string,
  generation: number,
  options: GlobalOptions & { readonly timeout: number },
): Promise<void> {
  const client = openClient(context, options);
  const { signal } = context;
  const applied = await runOperation(
    client,
    sessionId,
    "rollback",
    { generation },
    randomUUID(),
    options,
    signal,
  );
  context.output.result(applied, () => `generation ${applied.generation} has the files of ${generation}\n`);
}

/** `longshore sessions fork`: a new session from a generation of another one. */
export async function fork(
  context: CommandContext,
  sessionId: string,
  options: GlobalOptions & {
    readonly generation?: number;
    readonly conversation?: string;
    readonly thread?: string;
  },
): Promise<void> {
  const client = openClient(context, options);
  const { generation, conversation, thread } = options;
  const body = { generation, conversation, thread };
  const made = await client.post(`${sessionPath(sessionId)}/fork`, body, forkSchema, {
    signal: context.signal,
  });
  context.output.result(
    made,
    () =>
      `${made.sessionId} of conversation ${printableLine(made.conversation)}, from generation ${made.source.generation}\n`,
  );
}

/** `longshore sessions put`: one file. */
export async function putFile(
  context: CommandContext,
  sessionId: string,
  file: string,
  path: string,
  options: GlobalOptions & { readonly timeout: number },
): Promise<void> {
  const client = openClient(context, options);
  const { signal, output } = context;
  const stats = await stat(file).catch((error: unknown) => {
    throw new UsageError(`can't read ${JSON.stringify(file)}: ${(error as Error).message}`);
  });
  if (!stats.isFile()) throw new UsageError(`${JSON.stringify(file)} is no file; \`push\` takes directories`);
  const to = sessionPathOfApi(path);
  const query = new URLSearchParams({
    encoding: "base64url",
    mode: (stats.mode & 0o777).toString(8).padStart(3, "0"),
    modifiedAt: new Date(Math.floor(stats.mtimeMs)).toISOString(),
  });
  const address = `${sessionPath(sessionId)}/files/${Buffer.from(to).toString("base64url")}?${query}`;
  const content = Readable.toWeb(createReadStream(file)) as ReadableStream<Uint8Array>;
  const answer = await client.put(address, content, { signal, headers: { "idempotency-key": randomUUID() } });
  const generation =
    answer.status === 202
      ? await awaitApplied(
          client,
          acceptedSchema.parse(await answer.json()).messageId,
          options.timeout,
          signal,
        )
      : Number(answer.headers.get("longshore-generation"));
  const result = { sessionId, path: to, sizeBytes: stats.size, generation };
  output.result(result, () => `${to}: ${stats.size} bytes in generation ${generation}\n`);
}
