import { z } from "zod";

/**
 * The name of a tenant, agent, channel or key: what may stand in an object key, a metric label and a log
 * line without quoting.
 */
export const nameSchema = z.string().regex(/^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/, {
  error: "1 to 64 characters of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit",
});

/** Text from outside that serves as an identifier: no control characters, so that it can be logged. */
export function identifierSchema(maxLength: number) {
  return (
    z
      .string()
      .min(1)
      .max(maxLength)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
      .regex(/^[^\u0000-\u001f\u007f]*$/, { error: "no control characters" })
  );
}
