/** Hosts and the port that an agent may reach. */
export interface EgressPattern {
  /** In lower case; of a wildcard what follows `*.`. */
  readonly host: string;
  /** True for `*.host`: every name below the host, and not the host itself. */
  readonly isWildcard: boolean;
  readonly port: number;
}

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const NAME_CHARACTERS_MAX = 253;
/** What stands below a country's domain as a top-level domain of its own: `co.uk`, `com.au`. */
const SECOND_LEVEL = new Set(["ac", "co", "com", "edu", "go", "gov", "mil", "ne", "net", "or", "org"]);

/** A host's name as names are compared, or undefined where it is none (an address, for instance). */
export function hostName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  const labels = name.split(".");
  const isName = name.length <= NAME_CHARACTERS_MAX && labels.every((label) => LABEL.test(label));
  // A last label of digits makes an IPv4 address in one of its many spellings (0x7f.1, 2130706433).
  return isName && !/^(0x[0-9a-f]*|\d+)$/.test(labels.at(-1) ?? "") ? name : undefined;
}

/** Reads `host:port` or `*.host:port`. @returns the pattern, or what is wrong with it */
export function parseEgressPattern(text: string): EgressPattern | string {
  const [, wildcard, written = "", digits] = /^(\*\.)?([^:]+):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port < 1 || port > 65_535) return "host:port or *.host:port";
  const host = hostName(written);
  if (host === undefined) return "the name of a host, not an address or another pattern";
  const labels = host.split(".");
  if (labels.length < 2) return "a name with a dot: hosts of the fleet's own network are not reached";
  if (wildcard === undefined) return { host, isWildcard: false, port };
  const [first = "", last = ""] = labels.slice(-2);
  const isRegistry = labels.length === 2 && last.length === 2 && SECOND_LEVEL.has(first);
  if (isRegistry) return "a wildcard below a domain that one owner has";
  return { host, isWildcard: true, port };
}

/** @param host as `hostName` gives it */
export function matchesEgress(pattern: EgressPattern, host: string, port: number): boolean {
  if (pattern.port !== port) return false;
  return pattern.isWildcard ? host.endsWith(`.${pattern.host}`) : host === pattern.host;
}
