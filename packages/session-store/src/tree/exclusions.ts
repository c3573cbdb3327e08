import type { BytePath } from "../format/byte-path.ts";

/** Says which paths are left out. */
export type PathPredicate = (path: BytePath) => boolean;

/**
 * Compiles glob patterns over paths from the session directory: `*` and `?` within a part, `**` for any number of
 * parts, `{a,b}` for one of several. A pattern that matches a directory leaves out all below it, since it is not entered.
 *
 * @returns a predicate that is true for paths that one of the patterns matches; undefined without patterns
 */
export function compilePatterns(patterns: readonly string[]): PathPredicate | undefined {
  if (patterns.length === 0) return undefined;
  const expressions = patterns.map((pattern) => new RegExp(`^(?:${expressionOf(pattern)})$`, "s"));
  return (path) => expressions.some((expression) => expression.test(path));
}

function expressionOf(pattern: string): string {
  // Paths are strings of bytes, so the pattern has to be one too.
  const bytes = Buffer.from(pattern.replace(/^\/+/, ""), "utf8").toString("latin1");
  let expression = "";
  let alternatives = 0;
  for (let at = 0; at < bytes.length; at++) {
    const char = bytes[at] ?? "";
    if (bytes.startsWith("**/", at)) {
      expression += "(?:[^/]+/)*";
      at += 2;
    } else if (bytes.startsWith("/**", at) && at + 3 === bytes.length) {
      // "a/**" leaves out a's contents; a itself stays, empty.
      expression += "/.+";
      at += 2;
    } else if (bytes.startsWith("**", at)) {
      expression += ".*";
      at++;
    } else if (char === "*") expression += "[^/]*";
    else if (char === "?") expression += "[^/]";
    else if (char === "{") {
      alternatives++;
      expression += "(?:";
    } else if (char === "}" && alternatives > 0) {
      alternatives--;
      expression += ")";
    } else if (char === "," && alternatives > 0) expression += "|";
    else expression += char.replace(/[\\^$.*+?()[\]{}|/]/, "\\$&");
  }
  return expression + ")".repeat(alternatives);
}
