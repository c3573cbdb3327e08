/** Headers of one connection only (RFC 9110, 7.6.1), and those by which a client speaks to the proxy. */
const HOP_BY_HOP = new Set([
  ...["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"],
  ...["proxy-authentication-info", "te", "trailer", "transfer-encoding", "upgrade", "expect"],
]);

/**
 * The headers that go on, as pairs in one list, with those left out that are of this connection alone.
 * @param raw as Node.js gives them: names and values in turn
 */
export function endToEndHeaders(raw: readonly string[], leftOut: ReadonlySet<string> = new Set()): string[] {
  const pairs: [string, string][] = [];
  for (let index = 0; index + 1 < raw.length; index += 2)
    pairs.push([raw[index] ?? "", raw[index + 1] ?? ""]);
  const named = new Set(
    pairs
      .filter(([name]) => name.toLowerCase() === "connection")
      .flatMap(([, value]) => value.split(",").map((word) => word.trim().toLowerCase())),
  );
  return pairs
    .filter(([name]) => {
      const lower = name.toLowerCase();
      return !HOP_BY_HOP.has(lower) && !named.has(lower) && !leftOut.has(lower);
    })
    .flat();
}

/**
 * Replaces what the agent sent where a credential belongs, and only where it sent something: a request that needs
 * none, or has one of its own in another header (an OAuth exchange), goes as it is. Of `authorization` the scheme
 * stays.
 */
export function withCredentials(headers: readonly string[], secrets: ReadonlyMap<string, string>): string[] {
  return headers.map((text, index) => {
    if (index % 2 === 0) return text;
    const name = headers[index - 1]?.toLowerCase() ?? "";
    const secret = secrets.get(name);
    if (secret === undefined) return text;
    if (name !== "authorization") return secret;
    return `${/^\s*([A-Za-z][A-Za-z0-9-]*)\s/.exec(text)?.[1] ?? "Bearer"} ${secret}`;
  });
}
