import { type ConversationPlace, SCHEDULE_TEXT_MAX_BYTES } from "@longshore/shared";
import { z } from "zod";
import { OPTION_MAX, OPTIONS_MAX, QUESTION_MAX } from "../question.ts";
import type { ToolScheduleChange, ToolTiming } from "../tools/session-tools.ts";
import type { OutboundRow } from "./mailbox-databases.ts";

/** What a row of `messages_out` asks for. */
export type OutboundContent =
  | {
      readonly type: "message";
      readonly text: string;
      /** Absolute paths in the sandbox. */
      readonly files: readonly string[];
      /** A destination of the route; undefined: the turn's conversation. */
      readonly to: ConversationPlace | undefined;
    }
  | {
      readonly type: "question";
      readonly id: string;
      readonly text: string;
      readonly options: readonly { readonly label: string; readonly value: string }[];
    }
  | { readonly type: "request"; readonly request: OutboundRequest }
  /** Nothing for anybody to see. */
  | { readonly type: "nothing" }
  | { readonly type: "refused"; readonly reason: string };

/** What the agent asks the fleet to do. Messages are named by their ids, or by those of rows. */
export type OutboundRequest =
  | { readonly type: "edit"; readonly messageId: string; readonly text: string }
  | { readonly type: "reaction"; readonly messageId: string; readonly emoji: string }
  | {
      readonly type: "schedule";
      readonly taskId: string;
      readonly prompt: string;
      readonly timing: ToolTiming;
    }
  | { readonly type: "update"; readonly taskId: string; readonly change: ToolScheduleChange }
  | { readonly type: "cancel"; readonly taskId: string };

const CHAT_KINDS: ReadonlySet<string> = new Set(["chat", "chat-sdk"]);
/** Files that one message may name. */
const FILES_MAX = 100;
/** What a run of a scheduled task leaves for the log. */
const LOG_KIND = "task_log";
/** Asks the host to act. */
const SYSTEM_KIND = "system";

const changeSchema = z.discriminatedUnion("operation", [
  z.object({ operation: z.literal("edit"), messageId: z.string().max(512), text: z.string() }),
  z.object({
    operation: z.literal("reaction"),
    messageId: z.string().max(512),
    emoji: z.string().min(1).max(64),
  }),
]);

const taskIdSchema = z.string().min(1).max(128);
const promptSchema = z.string().max(SCHEDULE_TEXT_MAX_BYTES);
/** The contract lets a program decide before the agent runs; here the agent would have to. */
const noScriptSchema = z.literal("").nullish();
const actionSchema = z.discriminatedUnion("action", [
  z.object({
    action: z.literal("schedule_task"),
    taskId: taskIdSchema,
    prompt: promptSchema,
    processAfter: z.string(),
    recurrence: z.string().nullish(),
    script: noScriptSchema,
  }),
  z.object({
    action: z.literal("update_task"),
    taskId: taskIdSchema,
    prompt: promptSchema.optional(),
    processAfter: z.string().optional(),
    recurrence: z.string().nullish(),
    script: noScriptSchema,
  }),
  z.object({ action: z.enum(["cancel_task", "pause_task", "resume_task"]), taskId: taskIdSchema }),
]);

const chatSchema = z.object({
  type: z.string().optional(),
  operation: z.string().optional(),
  text: z.string().optional(),
  files: z.array(z.string()).optional(),
  questionId: z.string().optional(),
  title: z.string().optional(),
  question: z.string().optional(),
  options: z
    .array(z.union([z.string(), z.object({ label: z.string(), value: z.string().optional() })]))
    .optional(),
  fallbackText: z.string().optional(),
  card: z
    .object({
      title: z.string().optional(),
      description: z.string().optional(),
      children: z.array(z.union([z.string(), z.object({ text: z.string() })])).optional(),
      actions: z.array(z.object({ label: z.string(), url: z.string() })).optional(),
    })
    .optional(),
});

/**
 * @param routes where the turn's messages came from
 * @param destinations where the agent may write to besides
 * @param now in ms
 */
export function outboundContent(
  row: OutboundRow,
  routes: readonly ConversationPlace[],
  destinations: readonly ConversationPlace[],
  now: number,
): OutboundContent {
  const refused = (reason: string) => ({ type: "refused", reason }) as const;
  if (row.kind === LOG_KIND) return { type: "nothing" };
  if (!CHAT_KINDS.has(row.kind) && row.kind !== SYSTEM_KIND)
    return refused(`nothing is done for rows of kind ${shown(row.kind)}`);
  if (row.content === null) return refused("its content is too long");
  if (row.recurrence !== null || (row.deliverAfter !== null && !(Date.parse(row.deliverAfter) <= now)))
    return refused("nothing is sent later, or more than once: schedule a task");
  const json = parseJson(row.content);
  if (row.kind === SYSTEM_KIND) return actionOf(json);
  const isThere = ({ channel, conversation }: ConversationPlace) =>
    conversation === row.platformId && channel === row.channelType;
  const isOwn = row.platformId === null || routes.some(isThere);
  const to = isOwn ? undefined : destinations.find(isThere);
  if (!isOwn && to === undefined) return refused("it is for a conversation that the turn is not of");
  const content = chatSchema.safeParse(json);
  if (!content.success) return refused("its content is not understood");
  const { operation, files = [] } = content.data;
  if (operation !== undefined) return changeOf(json, operation);
  const { type, questionId, options = [] } = content.data;
  if (files.length > FILES_MAX) return refused(`it names more than ${FILES_MAX} files`);
  const text = textOf(content.data);
  if (type === "ask_question" && questionId !== undefined && text !== "") {
    const labelled = options.map((option) =>
      typeof option === "string"
        ? { label: option, value: option }
        : { label: option.label, value: option.value ?? option.label },
    );
    if (text.length > QUESTION_MAX || options.length > OPTIONS_MAX)
      return refused("its question is too long");
    if (labelled.some(({ label }) => label.length > OPTION_MAX)) return refused("an option is too long");
    return { type: "question", id: questionId, text, options: labelled };
  }
  const bad = [row.id, ...files].find((name) => files.length > 0 && !isPlainName(name));
  if (bad !== undefined) return refused(`${shown(bad)} is no name for a file of outbox/`);
  if (text === "" && files.length === 0) return { type: "nothing" };
  return { type: "message", text, files: files.map((name) => `/session/outbox/${row.id}/${name}`), to };
}

function changeOf(json: unknown, operation: string): OutboundContent {
  const change = changeSchema.safeParse(json);
  if (!change.success) return { type: "refused", reason: `${shown(operation)} is not done here, or not so` };
  const { operation: type, ...what } = change.data;
  return { type: "request", request: { type, ...what } as OutboundRequest };
}

function actionOf(json: unknown): OutboundContent {
  const parsed = actionSchema.safeParse(json);
  if (!parsed.success) {
    const name = (json as { action?: unknown } | null | undefined)?.action;
    const problem = z.prettifyError(parsed.error).slice(0, 500);
    return { type: "refused", reason: `the action ${shown(String(name))} is not done here: ${problem}` };
  }
  return { type: "request", request: requestOf(parsed.data) };
}

function requestOf(action: z.output<typeof actionSchema>): OutboundRequest {
  const { taskId } = action;
  switch (action.action) {
    case "schedule_task": {
      // The cron says when, also for the first time.
      const timing = action.recurrence ? { cron: action.recurrence } : { at: action.processAfter };
      return { type: "schedule", taskId, prompt: action.prompt, timing };
    }
    case "update_task": {
      const { prompt, processAfter, recurrence } = action;
      const timing = recurrence
        ? { cron: recurrence }
        : processAfter === undefined
          ? undefined
          : { at: processAfter };
      return { type: "update", taskId, change: { prompt, timing } };
    }
    case "cancel_task":
      return { type: "cancel", taskId };
    default:
      return { type: "update", taskId, change: { paused: action.action === "pause_task" } };
  }
}

function textOf({ text, fallbackText, title, question, card }: z.output<typeof chatSchema>): string {
  const lines = [
    text,
    title,
    question,
    ...(fallbackText
      ? [fallbackText]
      : [
          card?.title,
          card?.description,
          ...(card?.children ?? []).map((child) => (typeof child === "string" ? child : child.text)),
          ...(card?.actions ?? []).map(({ label, url }) => `${label}: ${url}`),
        ]),
  ];
  return lines.filter((line) => line !== undefined && line !== "").join("\n");
}

function isPlainName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !/[/\0]/.test(name);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function shown(word: string): string {
  return JSON.stringify(word.slice(0, 64));
}
