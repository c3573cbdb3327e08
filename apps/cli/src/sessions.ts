import { sessionPathOfApi } from "@longshore/shared";
import type { z } from "zod";
import {
  type FileAnswer,
  generationListSchema,
  type generationSchema,
  sessionListSchema,
  sessionSchema,
} from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { columns } from "./output.ts";
import { printableLine } from "./printable.ts";
import { readPages } from "./read-pages.ts";
import { contentPath, type GenerationFiles, readFiles, sessionPath } from "./session-files.ts";

export interface GenerationOptions extends GlobalOptions {
  readonly generation?: number;
}

/** `longshore sessions ls`: the tenant's sessions, latest activity first. */
export async function listSessions(
  context: CommandContext,
  options: GlobalOptions & { readonly limit: number },
): Promise<void> {
  const sessions = await readPages(openClient(context, options), {
    path: "/sessions",
    schema: sessionListSchema,
    itemsOf: (page) => page.sessions,
    limit: options.limit,
    signal: context.signal,
  });
  context.output.result(sessions, () =>
    columns(
      sessions.map(({ sessionId, agent, lastActiveAt, waiting, generation, ...activity }) => [
        sessionId,
        agent ?? "-",
        lastActiveAt,
        describeActivity(activity),
        `${waiting} waiting`,
        `generation ${generation}`,
      ]),
    ),
  );
}

function describeActivity({
  active,
  state,
  worker,
  retryAt,
}: {
  readonly active: boolean;
  readonly state?: string | undefined;
  readonly worker?: string | undefined;
  readonly retryAt?: string | undefined;
}): string {
  const name = state ?? (active ? "running" : "idle");
  if (worker !== undefined) return printableLine(`${name} on ${worker}`);
  return printableLine(retryAt === undefined ? name : `${name} at ${retryAt}`);
}

/** `longshore sessions show`: one session and its latest generations. */
export async function showSession(
  context: CommandContext,
  sessionId: string,
  options: GlobalOptions,
): Promise<void> {
  const client = openClient(context, options);
  const path = sessionPath(sessionId);
  const { signal } = context;
  const [session, { generations }] = await Promise.all([
    client.get(path, sessionSchema, { signal }),
    client.get(`${path}/generations`, generationListSchema, { signal }),
  ]);
  context.output.result({ ...session, generations }, () => {
    const state = describeActivity(session);
    const head = `session ${session.sessionId} of agent ${session.agent ?? "-"}: ${state}, ${session.waiting} waiting, ${session.undelivered} undelivered\n`;
    return head + describeUsage(session.usage) + columns(generations.map(describeGeneration));
  });
}

function describeUsage(usage: z.output<typeof sessionSchema>["usage"]): string {
  if (usage === undefined) return "";
  const parts = Object.entries(usage.tokens).map(([kind, count]) => `${count} ${kind}`);
  const { context } = usage;
  if (context !== undefined) parts.push(`${context.usedTokens} of ${context.sizeTokens} in context`);
  return `tokens: ${parts.join(", ")}\n`;
}

function describeGeneration(commit: z.output<typeof generationSchema>): string[] {
  const outcomes = commit.ends.map(({ outcome }) => outcome);
  return [
    `generation ${commit.generation}`,
    commit.time,
    commit.kind,
    `epoch ${commit.epoch}`,
    printableLine(commit.worker),
    `${commit.entries} entries`,
    `${commit.totalBytes} bytes`,
    outcomes.length === 0 ? "no message" : outcomes.join(", "),
    commit.replies === 1 ? "1 reply" : `${commit.replies} replies`,
  ];
}

/** `longshore sessions files`: the files of a generation. */
export async function listFiles(
  context: CommandContext,
  sessionId: string,
  options: GenerationOptions,
): Promise<void> {
  const client = openClient(context, options);
  const listing = await readFiles(client, sessionId, options.generation, context.signal);
  context.output.result(listing, () =>
    listing.generation === 0
      ? "nothing was committed yet\n"
      : `generation ${listing.generation}\n${columns([...listing.files.map(describeFile), ...external(listing)])}`,
  );
}

function external({ external: all = [] }: GenerationFiles): string[][] {
  return all.map(({ path, kind, mode }) => [mode, "-", kind, `${printableLine(path)}/`]);
}

function describeFile({ type, mode, sizeBytes, modifiedAt, path, target }: FileAnswer): string[] {
  const name = type === "link" ? `${path} -> ${target ?? ""}` : type === "directory" ? `${path}/` : path;
  return [mode.toString(8).padStart(4, "0"), String(sizeBytes ?? "-"), modifiedAt, printableLine(name)];
}

/** `longshore sessions cat`: a file, byte for byte. */
export async function showFile(
  context: CommandContext,
  sessionId: string,
  path: string,
  options: GenerationOptions,
): Promise<void> {
  const client = openClient(context, options);
  const bytes = Buffer.from(sessionPathOfApi(path));
  const content = await client.download(contentPath(sessionId, bytes, options.generation), context.signal);
  for await (const chunk of content) await context.output.writeAll(chunk);
}
