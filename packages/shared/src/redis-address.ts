const DEFAULT_PORT = 6379;
const DEFAULT_SENTINEL_PORT = 26379;

/** What a `REDIS_URL` may be, for people. */
export const REDIS_URL_FORMS =
  "redis://[user:password@]host[:port][/database], redis+sentinel://[user:password@]host[:port][,host[:port]…]/name[/database][?sentinelPassword=…], or redis+cluster://[user:password@]host[:port][,host[:port]…]; rediss… for TLS";

export interface RedisHost {
  readonly host: string;
  readonly port: number;
}

interface Login {
  readonly username?: string;
  readonly password?: string;
  readonly tls: boolean;
}

/** Where a Redis is: one server, the primary that sentinels name, or a cluster of which some nodes are named. */
export type RedisAddress = Login &
  (
    | { readonly kind: "single"; readonly hosts: readonly RedisHost[]; readonly database: number }
    | {
        readonly kind: "sentinel";
        readonly hosts: readonly RedisHost[];
        /** The name that the sentinels know the primary by. */
        readonly name: string;
        readonly database: number;
        readonly sentinelUsername?: string;
        readonly sentinelPassword?: string;
      }
    | { readonly kind: "cluster"; readonly hosts: readonly RedisHost[] }
  );

const URL_PARTS =
  /^(?<scheme>rediss?)(?:\+(?<kind>sentinel|cluster))?:\/\/(?:(?<login>[^@/?]*)@)?(?<hosts>[^@/?]+)(?:\/(?<path>[^?]*))?(?:\?(?<query>.*))?$/;
const HOST = /^(?<host>\[[0-9a-fA-F:.]+\]|[^:[\]\s]+)(?::(?<port>\d{1,5}))?$/;
const SENTINEL_OPTIONS: ReadonlySet<string> = new Set(["sentinelUsername", "sentinelPassword"]);

/** Reads a `REDIS_URL`; undefined where it is none of `REDIS_URL_FORMS`. */
export function parseRedisUrl(url: string): RedisAddress | undefined {
  const parts = URL_PARTS.exec(url)?.groups;
  if (parts === undefined) return undefined;
  const { kind = "single", login = "", path = "", query = "" } = parts;
  const hosts = parseHosts(parts.hosts as string, kind === "sentinel" ? DEFAULT_SENTINEL_PORT : DEFAULT_PORT);
  try {
    const [username = "", password = ""] = splitOnce(login, ":").map(decodeURIComponent);
    const common = {
      tls: parts.scheme === "rediss",
      ...(username === "" ? {} : { username }),
      ...(password === "" ? {} : { password }),
    };
    const segments = path.split("/").map(decodeURIComponent);
    const options = new URLSearchParams(query);
    if (hosts === undefined) return undefined;
    if (kind === "sentinel") {
      const [name = "", database = "", ...more] = segments;
      if (name === "" || more.length > 0 || !isDatabase(database)) return undefined;
      if ([...options.keys()].some((option) => !SENTINEL_OPTIONS.has(option))) return undefined;
      const sentinelUsername = options.get("sentinelUsername");
      const sentinelPassword = options.get("sentinelPassword");
      return {
        ...common,
        ...{ kind, hosts, name, database: Number(database) },
        ...(sentinelUsername === null ? {} : { sentinelUsername }),
        ...(sentinelPassword === null ? {} : { sentinelPassword }),
      };
    }
    if (query !== "") return undefined;
    if (kind === "cluster") return path === "" ? { ...common, kind, hosts } : undefined;
    const [database = "", ...more] = segments;
    if (hosts.length !== 1 || more.length > 0 || !isDatabase(database)) return undefined;
    return { ...common, kind: "single", hosts, database: Number(database) };
  } catch (error) {
    // What is no text once the percent signs are resolved.
    if (error instanceof URIError) return undefined;
    throw error;
  }
}

function parseHosts(list: string, defaultPort: number): RedisHost[] | undefined {
  const hosts: RedisHost[] = [];
  for (const text of list.split(",")) {
    const { host, port } = HOST.exec(text)?.groups ?? {};
    if (host === undefined) return undefined;
    const number = port === undefined ? defaultPort : Number(port);
    if (number < 1 || number > 65_535) return undefined;
    hosts.push({ host: host.replace(/^\[|\]$/g, ""), port: number });
  }
  return hosts;
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function isDatabase(text: string): boolean {
  return /^\d{0,4}$/.test(text);
}

/** The addresses of a `REDIS_URL` without user and password. */
export function redisHosts(url: string): string {
  return (
    parseRedisUrl(url)
      ?.hosts.map(({ host, port }) => `${host}:${port}`)
      .join(",") ?? "REDIS_URL"
  );
}

/** What of a `REDIS_URL` no log line may contain, as it is written there and as it is meant. */
export function redisSecrets(url: string): string[] {
  const address = parseRedisUrl(url);
  if (address === undefined) return [];
  const passwords = [address.password, address.kind === "sentinel" ? address.sentinelPassword : undefined];
  return passwords.flatMap((password) =>
    password === undefined ? [] : [encodeURIComponent(password), password],
  );
}
