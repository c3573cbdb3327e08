import { messageStates } from "@longshore/shared";
import { z } from "zod";

// What the CLI needs of the dispatcher's answers. Fields that are unknown here are kept for `--json`: a
// newer dispatcher may say more.

export const acceptedSchema = z.looseObject({
  messageId: z.string(),
  sessionId: z.string(),
  duplicate: z.boolean(),
});

const errorSchema = z.looseObject({ code: z.string(), message: z.string() });

export const artifactSchema = z.looseObject({
  id: z.string(),
  name: z.string(),
  contentType: z.string(),
  sizeBytes: z.number(),
});

export const replySchema = z.looseObject({
  id: z.string(),
  text: z.string(),
  artifacts: z.array(artifactSchema),
  question: z.looseObject({ id: z.string() }).optional(),
  /** `edit` and `reaction` are of another reply or message. */
  kind: z.string().optional(),
});

export const messageSchema = z.looseObject({
  messageId: z.string(),
  sessionId: z.string(),
  state: z.enum([...messageStates, "waiting"]),
  generation: z.number().optional(),
  error: errorSchema.optional(),
  replies: z.array(replySchema),
});
export type MessageAnswer = z.output<typeof messageSchema>;

export const cancelledTurnSchema = z.looseObject({ turnId: z.string(), messageIds: z.array(z.string()) });

export const problemSchema = z.looseObject({
  code: z.string(),
  detail: z.string().optional(),
  title: z.string().optional(),
  missing: z.array(z.string()).optional(),
});

export const generationSchema = z.looseObject({
  generation: z.number(),
  kind: z.string(),
  time: z.string(),
  worker: z.string(),
  epoch: z.number(),
  entries: z.number(),
  totalBytes: z.number(),
  changed: z.looseObject({ set: z.number(), removed: z.number() }).optional(),
  ends: z.array(
    z.looseObject({ messageId: z.string(), outcome: z.string(), operation: z.string().optional() }),
  ),
  replies: z.number(),
});

export const sessionListSchema = z.looseObject({
  sessions: z.array(
    z.looseObject({
      sessionId: z.string(),
      agent: z.string().optional(),
      lastActiveAt: z.string(),
      waiting: z.number(),
      active: z.boolean(),
      state: z.string().optional(),
      worker: z.string().optional(),
      retryAt: z.string().optional(),
      generation: z.number(),
    }),
  ),
  cursor: z.string().optional(),
});

export const sessionSchema = z.looseObject({
  sessionId: z.string(),
  agent: z.string().optional(),
  waiting: z.number(),
  undelivered: z.number(),
  active: z.boolean(),
  state: z.string().optional(),
  worker: z.string().optional(),
  retryAt: z.string().optional(),
  usage: z
    .looseObject({
      tokens: z.record(z.string(), z.number()),
      context: z.looseObject({ usedTokens: z.number(), sizeTokens: z.number() }).optional(),
    })
    .optional(),
});

export const turnLogListSchema = z.looseObject({
  turnLogs: z.array(
    z.looseObject({ id: z.string(), turnId: z.string(), startedAt: z.string(), sizeBytes: z.number() }),
  ),
  cursor: z.string().optional(),
});

export const generationListSchema = z.looseObject({ generations: z.array(generationSchema) });

export const fileSchema = z.looseObject({
  path: z.string(),
  /** The path's bytes, where they are not UTF-8. */
  pathBase64: z.string().optional(),
  type: z.enum(["file", "directory", "link"]),
  mode: z.number().int().min(0),
  modifiedAt: z.string(),
  sizeBytes: z.number().int().min(0).optional(),
  target: z.string().optional(),
  targetBase64: z.string().optional(),
});
export type FileAnswer = z.output<typeof fileSchema>;

export const filePageSchema = z.looseObject({
  /** 0 where nothing was committed yet. */
  generation: z.number().int().min(0),
  files: z.array(fileSchema),
  external: z.array(z.looseObject({ path: z.string(), kind: z.string(), mode: z.string() })).optional(),
  cursor: z.string().optional(),
});

export type FilePage = z.output<typeof filePageSchema>;

/** What an operation on a session is answered with; without a generation where it is not applied yet. */
export const operationSchema = acceptedSchema.extend({ generation: z.number().optional() });

export const diffPageSchema = z.looseObject({
  from: z.number(),
  to: z.number(),
  total: z.number(),
  changes: z.array(
    z.looseObject({
      path: z.string(),
      change: z.enum(["added", "removed", "changed"]),
      what: z.array(z.string()).optional(),
      before: fileSchema.optional(),
      after: fileSchema.optional(),
    }),
  ),
  cursor: z.string().optional(),
});

export const forkSchema = z.looseObject({
  sessionId: z.string(),
  generation: z.number(),
  conversation: z.string(),
  source: z.looseObject({ sessionId: z.string(), generation: z.number() }),
});

export const deadLetterPageSchema = z.looseObject({
  deadLetters: z.array(
    z.looseObject({
      id: z.string(),
      kind: z.enum(["message", "reply"]),
      sessionId: z.string(),
      agent: z.string().optional(),
      channel: z.string(),
      conversation: z.string(),
      excerpt: z.string(),
      error: errorSchema,
      diedAt: z.string(),
    }),
  ),
  cursor: z.string().optional(),
});

export const retriedSchema = z.looseObject({
  kind: z.enum(["message", "reply"]),
  messageId: z.string().optional(),
  replyId: z.string().optional(),
  sessionId: z.string(),
  duplicate: z.boolean(),
});

export const scheduleViewSchema = z.looseObject({
  id: z.string(),
  cron: z.string().optional(),
  timeZone: z.string().optional(),
  everySeconds: z.number().optional(),
  at: z.string().optional(),
  nextAt: z.string().optional(),
  paused: z.boolean().optional(),
  message: z.looseObject({
    agent: z.string(),
    channel: z.string(),
    conversation: z.string(),
    text: z.string(),
  }),
});

export const scheduleListSchema = z.looseObject({ schedules: z.array(scheduleViewSchema) });

export const workerListSchema = z.looseObject({
  workers: z.array(
    z.looseObject({
      workerId: z.string(),
      host: z.string(),
      startedAt: z.string(),
      places: z.number(),
      draining: z.boolean(),
      activations: z.record(z.string(), z.number()),
    }),
  ),
});

export const queueListSchema = z.looseObject({
  queues: z.array(z.looseObject({ name: z.string(), jobs: z.record(z.string(), z.number()) })),
});
