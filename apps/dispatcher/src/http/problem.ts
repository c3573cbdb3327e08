import { STATUS_CODES } from "node:http";
import {
  BadCursorError,
  type InputProblem,
  InvalidMessageError,
  InvalidScheduleError,
  isRedisFull,
  isRedisTrouble,
  LongshoreError,
  RateLimitedError,
} from "@longshore/shared";
import type { FastifyError } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import { z } from "zod";
import { OperationFailedError } from "../errors.ts";
import { ApiError } from "./api-error.ts";

export const PROBLEM_TYPE = "application/problem+json";

/** An RFC 9457 problem document; `code` is what a program looks at. */
export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.string(),
  detail: z.string(),
  /** What is wrong with the input, where. */
  errors: z.array(z.object({ where: z.string(), problem: z.string() })).optional(),
  /** Hashes of contents that have to be uploaded first. */
  missing: z.array(z.string()).optional(),
});
export type ProblemDocument = z.output<typeof problemSchema>;

export interface Problem {
  readonly document: ProblemDocument;
  readonly retryAfterSeconds?: number | undefined;
}

const RETRY_SECONDS = 2;
const MAILBOX_RETRY_SECONDS = 5;
const FULL_RETRY_SECONDS = 30;

/** Status by the code of errors that come from below; the rest are 503 where retryable, else 500. */
const STATUS: Readonly<Record<string, number>> = {
  INVALID_MESSAGE: 400,
  UNSAFE_PATH: 400,
  UNKNOWN_AGENT: 422,
  UNKNOWN_CHANNEL: 422,
  NO_ROUTE: 422,
  UNKNOWN_TENANT: 403,
  MESSAGE_TOO_LARGE: 413,
  MAILBOX_FULL: 429,
  TOO_MANY_WAITING: 429,
  RATE_LIMITED: 429,
  ATTACHMENT_FETCH_FAILED: 502,
  STORAGE_FULL: 507,
  GENERATION_NOT_FOUND: 404,
  QUOTA_EXCEEDED: 413,
  SESSION_EXISTS: 409,
  INVALID_SCHEDULE: 400,
  SCHEDULE_NOT_FOUND: 404,
  TOO_MANY_SCHEDULES: 409,
  DEAD_LETTER_NOT_FOUND: 404,
  DEAD_LETTER_GONE: 410,
  TURN_NOT_RUNNING: 409,
  SESSION_BUSY: 409,
};

function problem(
  status: number,
  code: string,
  detail: string,
  more: {
    readonly errors?: readonly InputProblem[] | undefined;
    readonly missing?: readonly string[] | undefined;
    readonly retryAfterSeconds?: number | undefined;
  } = {},
): Problem {
  const { errors, missing, retryAfterSeconds } = more;
  return {
    document: {
      type: "about:blank",
      title: STATUS_CODES[status] ?? "Error",
      status,
      code,
      detail,
      ...(errors === undefined ? {} : { errors: [...errors] }),
      ...(missing === undefined ? {} : { missing: [...missing] }),
    },
    retryAfterSeconds,
  };
}

/** A session that is as it is can't take an operation: 409. */
const OPERATION_FAILED_STATUS = 409;

/**
 * The problem document of an error; undefined where it is a defect, which only the log may describe.
 *
 * @param bodyIs what a body is that is not valid
 */
export function problemOf(error: unknown, bodyIs: "message" | "body" = "body"): Problem | undefined {
  if (error instanceof ApiError) {
    const { status, code, message, problems, missing, retryAfterSeconds } = error;
    return problem(status, code, message, { errors: problems, missing, retryAfterSeconds });
  }
  if (error instanceof OperationFailedError)
    return problem(STATUS[error.code] ?? OPERATION_FAILED_STATUS, error.code, error.message);
  if (error instanceof LongshoreError) return problemOfLongshore(error);
  if (isRedisFull(error))
    return problem(
      503,
      "REDIS_FULL",
      "Redis has no memory left; the same request may be sent again when there is some",
      {
        retryAfterSeconds: FULL_RETRY_SECONDS,
      },
    );
  if (isRedisTrouble(error))
    return problem(503, "REDIS_UNAVAILABLE", "Redis does not answer; the same request may be sent again", {
      retryAfterSeconds: RETRY_SECONDS,
    });
  if (error instanceof BadCursorError)
    return problem(400, "INVALID_REQUEST", "The querystring is not valid", {
      errors: [{ where: "cursor", problem: "a cursor of a page before" }],
    });
  if (hasZodFastifySchemaValidationErrors(error)) {
    const { code, detail } =
      error.validationContext === "body" && bodyIs === "message"
        ? { code: "INVALID_MESSAGE", detail: "The message is not valid" }
        : { code: "INVALID_REQUEST", detail: `The ${error.validationContext ?? "request"} is not valid` };
    const errors = error.validation.map(({ instancePath, message }) => ({
      where: instancePath.replace(/^\//, "").replaceAll("/", "."),
      problem: message ?? "not valid",
    }));
    return problem(400, code, detail, { errors });
  }
  const { statusCode, code, message } = error as Partial<FastifyError>;
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE")
    return problem(415, "UNSUPPORTED_MEDIA_TYPE", "The body must be application/json");
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500)
    return problem(statusCode, "INVALID_REQUEST", message ?? "The request is not valid");
  return undefined;
}

function retryAfterSeconds(error: LongshoreError): number | undefined {
  if (error instanceof RateLimitedError) return Math.max(Math.ceil(error.retryInMs / 1_000), 1);
  return error.retryable ? MAILBOX_RETRY_SECONDS : undefined;
}

function problemOfLongshore(error: LongshoreError): Problem {
  const status = STATUS[error.code];
  if (status !== undefined) {
    return problem(status, error.code, error.message, {
      errors:
        error instanceof InvalidMessageError || error instanceof InvalidScheduleError
          ? error.problems
          : undefined,
      retryAfterSeconds: retryAfterSeconds(error),
    });
  }
  // The messages of the store's errors name keys and addresses, which are nobody's business outside.
  if (error.retryable)
    return problem(
      503,
      error.code,
      "A part of the fleet does not answer; the same request may be sent again",
      {
        retryAfterSeconds: RETRY_SECONDS,
      },
    );
  return problem(500, error.code, "The request failed; the reason is in the dispatcher's log");
}

export const INTERNAL_PROBLEM: Problem = problem(
  500,
  "INTERNAL_ERROR",
  "The request failed; the reason is in the dispatcher's log",
);
