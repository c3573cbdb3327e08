import type { z } from "zod";

/** What stands in a text where a secret was. */
const NOT_SHOWN = "[not shown]";
/** Shorter values would be found by chance in ordinary words. */
const SHORTEST_SECRET = 4;

export interface DescribeOptions {
  /** Values that must not be repeated, wherever they were put in. */
  readonly secrets?: readonly string[];
  /** Whether a value may not be shown because of its place. */
  readonly isSecretPlace: (where: string) => boolean;
}

/** What zod found, one line each: where, what was given, what is allowed. Shows nothing that may be a secret. */
export function describeIssues(
  error: z.ZodError,
  input: unknown,
  { secrets = [], isSecretPlace }: DescribeOptions,
): string[] {
  const hide = (text: string) =>
    secrets
      .filter((secret) => secret.length >= SHORTEST_SECRET)
      .reduce((shown, secret) => shown.replaceAll(secret, NOT_SHOWN), text);
  return error.issues.flatMap((issue) => {
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) =>
        hide(`${[...issue.path, key].join(".")}: given an unknown key; allowed: the keys of the reference`),
      );
    }
    const where = issue.path.join(".") || "the whole";
    const given = valueAt(input, issue.path);
    const shown = isSecretPlace(where) && given !== undefined ? "a value that is not shown" : describe(given);
    return [hide(`${where}: given ${shown}; allowed: ${allowed(issue.message)}`)];
  });
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) =>
      value !== null && typeof value === "object" && Object.hasOwn(value, part)
        ? (value as Record<PropertyKey, unknown>)[part]
        : undefined,
    input,
  );
}

function describe(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "a group of keys" : JSON.stringify(value);
}

/** Zod's own messages say what was expected after a prefix, and what came instead, which is said already. */
function allowed(message: string): string {
  return message
    .replace(/^(?:Invalid input|Invalid option|Too small|Too big): expected /, "")
    .replace(/, received \w+$/, "")
    .replace(/^Invalid URL$/, "an address (URL)");
}
