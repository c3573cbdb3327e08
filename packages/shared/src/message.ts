import { z } from "zod";
import { messageMountsSchema } from "./mount-schema.ts";
import { identifierSchema, nameSchema } from "./names.ts";
import { operationSchema } from "./operation.ts";

/** What an attachment is, where its sender gives neither a name nor a content type. */
export const attachmentKinds = ["image", "audio", "video", "document", "file"] as const;

/** Bounds that hold whatever an agent's definition says; its own `limits` are lower or equal. */
export const MESSAGE_TEXT_MAX_BYTES = 1024 ** 2;
export const MESSAGE_ATTACHMENTS_MAX = 100;

/** Whether a URL holds a user or a password: such a one would get into errors as it is. */
export function hasCredentials(url: URL | null): boolean {
  return url !== null && url.username + url.password !== "";
}

const attachmentShape = z.strictObject({
  /** A file name; made safe and unique before it becomes one below `inbox/<messageId>/`. */
  name: z.string().min(1).max(1024).optional(),
  contentType: z
    .string()
    .max(255)
    .regex(/^[\w.+-]+\/[\w.+-]+(?:\s*;.*)?$/, { error: 'a media type such as "text/csv"' })
    .optional(),
  kind: z.enum(attachmentKinds).optional(),
  /** The bytes, in base64. */
  data: z.base64({ error: "base64" }).optional(),
  /** Where the dispatcher gets the bytes, before it accepts the message: of the agent's `attachmentOrigins`. */
  url: z
    .url({ protocol: /^https?$/, error: "an http or https URL" })
    .max(4096)
    .refine((url) => !hasCredentials(URL.parse(url)), { error: "a URL without user and password" })
    .optional(),
});

/** A file that comes with a message: its bytes themselves, or where they are. */
export const attachmentSchema = attachmentShape.refine(
  ({ data, url }) => (data === undefined) !== (url === undefined),
  { error: "either data or url" },
);

/**
 * An inbound message as its sender writes it: the body of `POST /v1/messages`, and (with `tenant`) the
 * data of a job on the queue `inbound`.
 */
export const messageSchema = z.strictObject({
  /** Chosen by the sender; the idempotency key within its session. */
  id: identifierSchema(256),
  agent: nameSchema,
  channel: nameSchema,
  conversation: identifierSchema(512),
  thread: identifierSchema(512).optional(),
  sender: z.strictObject({ id: identifierSchema(256), name: identifierSchema(256).optional() }),
  text: z.string().refine((text) => Buffer.byteLength(text) <= MESSAGE_TEXT_MAX_BYTES, {
    error: `at most ${MESSAGE_TEXT_MAX_BYTES} bytes`,
  }),
  attachments: z.array(attachmentSchema).max(MESSAGE_ATTACHMENTS_MAX).default([]),
  kind: z.enum(["chat", "task", "system"]).default("chat"),
  /** When it was sent, as its channel says; ISO 8601 with an offset. */
  sentAt: z.iso.datetime({ offset: true }).optional(),
  /** Not to be answered before this time; ISO 8601 with an offset. */
  notBefore: z.iso.datetime({ offset: true }).optional(),
  /** False: it only adds context to the next turn, and is no reason for one. @default true */
  wake: z.boolean().optional(),
  /** Directories of the workers' hosts that its turn is to see; only where its agent's definition has `mountsByMessage`. */
  mounts: messageMountsSchema.optional(),
  metadata: z
    .record(z.string().max(64), z.union([z.string().max(1024), z.number(), z.boolean()]))
    .refine((metadata) => Object.keys(metadata).length <= 32, { error: "at most 32 entries" })
    .optional(),
});
export type Message = z.output<typeof messageSchema>;

/** The data of a job on `inbound`: who can write to Redis is trusted to name the tenant. */
export const inboundJobSchema = messageSchema.extend({ tenant: nameSchema });
export type InboundJob = z.output<typeof inboundJobSchema>;

/** An attachment that was accepted: its bytes are in the object store below the session's `inbound/`. */
export const storedAttachmentSchema = z.strictObject({
  /** Already safe and unique within its message. */
  name: z.string(),
  contentType: z.string(),
  sizeBytes: z.int().nonnegative(),
  sha256: z.string(),
});
export type StoredAttachment = z.output<typeof storedAttachmentSchema>;

/** A message as the mailbox holds it. */
export const acceptedMessageSchema = messageSchema.omit({ id: true, attachments: true }).extend({
  /** The public id: `<sessionId>-<hash of the sender's id>`. */
  id: z.string(),
  tenant: nameSchema,
  sessionId: z.string(),
  attachments: z.array(storedAttachmentSchema),
  acceptedAt: z.iso.datetime(),
  /** Where it is no word to the agent. Only the dispatcher's own routes make these: no sender can. */
  operation: operationSchema.optional(),
  /** Where it is a dead message that is tried again: the first of its line, and how often it was. */
  retryOf: z.strictObject({ messageId: z.string(), count: z.int().positive() }).optional(),
});
export type AcceptedMessage = z.output<typeof acceptedMessageSchema>;

/** The states of a message; the last three are terminal, and a message reaches exactly one of them. */
export const messageStates = ["accepted", "running", "answered", "dead", "cancelled"] as const;
export type MessageState = (typeof messageStates)[number];
