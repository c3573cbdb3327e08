import { type DestinationStream, type Logger, pino } from "pino";
import { CENSOR, KnownSecrets } from "./known-secrets.ts";

export type { Logger };

/** Names of fields whose value never reaches a log, at the top of a record or one or two levels below. */
const SECRET_FIELDS = [
  "authorization",
  "Authorization",
  "cookie",
  "password",
  "secret",
  "secretAccessKey",
  "accessKeyId",
  "sessionToken",
  "token",
  "apiKey",
  "key",
  "hash",
];

/**
 * Replaces the password in every URL in a text, as in `redis://user:password@host`. A quote ends a URL: in a
 * line of JSON what looks like its password may be the text up to an `@` in another field.
 */
export function redactUrls(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]*:\/\/[^\s:/@"\\]*):[^\s/"\\]+@/gi, `$1:${CENSOR}@`);
}

export interface LoggerOptions {
  /** The process' role: `dispatcher`, `worker`, `cli`. */
  readonly name: string;
  /** @default "info" */
  readonly level?: string;
  /** @default none */
  readonly secrets?: KnownSecrets;
  /** Where lines go. @default standard output */
  readonly destination?: DestinationStream;
}

/** JSON lines; secrets are taken out by field name, out of URLs, and by value where they are known. */
export function createLogger({
  name,
  level = "info",
  secrets = new KnownSecrets(),
  destination,
}: LoggerOptions): Logger {
  return pino(
    {
      name,
      level,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
        censor: CENSOR,
      },
      hooks: {
        streamWrite: (line) => secrets.redact(redactUrls(line)),
      },
    },
    destination ?? pino.destination({ fd: 1, sync: true }),
  );
}
