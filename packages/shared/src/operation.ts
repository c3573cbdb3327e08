import { z } from "zod";
import { splitTreePath } from "./session-tree-paths.ts";

/** Paths that one upload may set and remove, together. */
export const OPERATION_PATHS_MAX = 50_000;
/** Size of an operation in the mailbox, in bytes of JSON. */
export const OPERATION_MAX_BYTES = 8 * 1024 ** 2;

/** Text, or its bytes where they are not UTF-8. */
const textOrBytesSchema = z.union([
  z.string().max(4_096),
  z.strictObject({
    base64: z
      .string()
      .max(8_192)
      .regex(/^[\w-]+$/, { error: "base64url" }),
  }),
]);

/** A path from the session directory. */
const operationPathSchema = textOrBytesSchema.superRefine((path, context) => {
  try {
    splitTreePath(bytesOrText(path));
  } catch (error) {
    context.addIssue({ code: "custom", message: (error as Error).message });
  }
});
export type OperationPath = z.output<typeof operationPathSchema>;

export const uploadSchema = z.strictObject({
  type: z.literal("upload"),
  /** Files to be written; their contents are in the object store already, below the session's `inbound/`. */
  set: z.array(
    z.strictObject({
      path: operationPathSchema,
      sha256: z.string().regex(/^[0-9a-f]{64}$/, { error: "64 hexadecimal digits" }),
      sizeBytes: z.int().nonnegative(),
      /** Permission bits. @default 0o644 */
      mode: z.int().min(0).max(0o777).optional(),
      /** @default when it is applied */
      modifiedAt: z.iso.datetime({ offset: true }).optional(),
    }),
  ),
  /** Directories that are to be there, empty or not. */
  directories: z
    .array(
      z.strictObject({
        path: operationPathSchema,
        /** Permission bits. @default 0o755 */
        mode: z.int().min(0).max(0o777).optional(),
        /** @default when it is applied */
        modifiedAt: z.iso.datetime({ offset: true }).optional(),
      }),
    )
    .optional(),
  /** Symbolic links; where they point is nobody's matter but the agent's. */
  links: z
    .array(
      z.strictObject({
        path: operationPathSchema,
        target: textOrBytesSchema.refine((target) => isLinkTarget(operationPathBytes(target)), {
          error: "1 to 4095 bytes without NUL",
        }),
        /** @default when it is applied */
        modifiedAt: z.iso.datetime({ offset: true }).optional(),
      }),
    )
    .optional(),
  /** Paths to be removed, directories with all that is in them; one that is not there is no error. */
  remove: z.array(operationPathSchema),
});

const rollbackSchema = z.strictObject({
  type: z.literal("rollback"),
  /** The generation whose files the session is to have again. */
  generation: z.int().positive(),
});

/**
 * A change of a session that is no word to its agent. It is accepted and applied in order with the session's
 * messages, so that there is one holder of leases and one commit point (I1, I3).
 */
export const operationSchema = z
  .discriminatedUnion("type", [uploadSchema, rollbackSchema])
  .superRefine((operation, context) => {
    if (operation.type !== "upload") return;
    const report = (message: string) => context.addIssue({ code: "custom", message });
    const made = [...operation.set, ...(operation.directories ?? []), ...(operation.links ?? [])];
    const paths = [...made.map(({ path }) => path), ...operation.remove];
    if (paths.length === 0) report("at least one path");
    if (paths.length > OPERATION_PATHS_MAX) report(`at most ${OPERATION_PATHS_MAX} paths`);
    if (Buffer.byteLength(JSON.stringify(operation)) > OPERATION_MAX_BYTES)
      report(`at most ${OPERATION_MAX_BYTES} bytes`);
    const set = made.map(({ path }) => operationPathBytes(path).toString("latin1"));
    if (new Set(set).size < set.length) report("each path once");
  });
export type Operation = z.output<typeof operationSchema>;
export type UploadOperation = z.output<typeof uploadSchema>;
export type RollbackOperation = z.output<typeof rollbackSchema>;

/** What of an operation stays in the commit that ends it: which files an upload changed, the commit itself says. */
export const endedOperationSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("upload"),
    set: z.int().nonnegative(),
    remove: z.int().nonnegative(),
  }),
  rollbackSchema,
]);
export type EndedOperation = z.output<typeof endedOperationSchema>;

/** What stays of an operation when it has ended. */
export function summarizeOperation(operation: Operation): EndedOperation {
  if (operation.type === "rollback") return operation;
  const { set, directories = [], links = [], remove } = operation;
  return { type: "upload", set: set.length + directories.length + links.length, remove: remove.length };
}

/** The bytes of a path. */
export function operationPathBytes(path: OperationPath): Buffer {
  const given = bytesOrText(path);
  return typeof given === "string" ? Buffer.from(given, "utf8") : given;
}

function isLinkTarget(bytes: Buffer): boolean {
  return bytes.length > 0 && bytes.length < 4_096 && !bytes.includes(0);
}

function bytesOrText(path: OperationPath): string | Buffer {
  return typeof path === "string" ? path : Buffer.from(path.base64, "base64url");
}
