import { isIPv4 } from "node:net";
import { z } from "zod";
import { hostName, parseEgressPattern } from "./egress-pattern.ts";
import { duration, size } from "./units.ts";

/** Headers that say how a message is framed or where it goes: none of them carries a credential. */
const NO_CREDENTIAL = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "te",
  "transfer-encoding",
  "upgrade",
]);

const hostOf = (url: string): string => URL.parse(url)?.hostname ?? "";

const credentialSchema = z.strictObject({
  upstream: z
    .url({ protocol: /^https$/ })
    .refine((url) => !/[?#@]/.test(url), { error: "an https URL without user, query and fragment" })
    .describe("The server that the credential is for, with a path where it is for a part of it only."),
  private: z
    .boolean()
    .default(false)
    .describe(
      "The upstream may be in the workers' own network, or on their host: by a name without a dot or an IPv4 address too. Certificates of an authority of your own: `NODE_EXTRA_CA_CERTS`.",
    ),
  as: z
    .string()
    .regex(/^\/[A-Za-z0-9_-]+$/, { error: "a slash and a word" })
    .describe("The agent reaches it as `http://127.0.0.1:3128` followed by this."),
  header: z
    .string()
    .regex(/^[A-Za-z0-9-]+$/, { error: "the name of a header" })
    .transform((name) => name.toLowerCase())
    .refine((name) => !NO_CREDENTIAL.has(name), { error: "a header that carries a credential" })
    .describe(
      "Where the agent sends this header, its value is replaced by the secret; of `authorization` what follows the scheme.",
    ),
  secret: z
    .string()
    .min(1)
    .regex(/^[\x21-\x7e]+$/, { error: "printable characters without blanks" })
    .describe("The credential, from a variable or a file. No agent sees it."),
  variable: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "a variable's name" })
    .optional()
    .describe("Variable of the agent's environment that gets the address, such as `ANTHROPIC_BASE_URL`."),
});

/** What an agent may reach beyond its sandbox. */
export const egressSchema = z
  .strictObject({
    allow: z
      .array(
        z.string().superRefine((text, context) => {
          const pattern = parseEgressPattern(text);
          if (typeof pattern === "string") context.addIssue({ code: "custom", message: pattern });
        }),
      )
      .max(1_000)
      .default([])
      .describe("Hosts and ports: `host:port`, or `*.host:port` for every name below."),
    credentials: z.array(credentialSchema).max(100).default([]),
    limits: z
      .strictObject({
        requests: z.int().min(1).max(1_000_000_000).default(100_000),
        connections: z.int().min(1).max(256).default(64).describe("At once."),
        bytes: size({ min: "1KiB", max: "64TiB" }).prefault("10GiB").describe("Both ways together."),
      })
      .prefault({})
      .describe("Of each activation; what goes beyond them is refused."),
    idle: duration({ min: "1s", max: "1h" })
      .prefault("5m")
      .describe("A connection that carries nothing for so long is ended."),
  })
  .superRefine(({ credentials }, context) => {
    const upstreams = new Map<string, string>();
    const issue = (index: number, key: string, message: string): void =>
      context.addIssue({ code: "custom", path: ["credentials", index, key], message });
    const seen = new Set<string>();
    credentials.forEach((credential, index) => {
      const { as, upstream, header } = credential;
      const host = hostOf(upstream);
      if (credential.private) {
        if (hostName(host) === undefined && !isIPv4(host))
          issue(index, "upstream", "the name or the IPv4 address of a host");
      } else if (hostName(host)?.includes(".") !== true) {
        issue(index, "upstream", "the public name of a host; one of your own network takes `private: true`");
      }
      const behind = `${upstream} ${credential.private}`;
      if ((upstreams.get(as) ?? behind) !== behind) issue(index, "as", "one upstream for each");
      upstreams.set(as, behind);
      if (seen.has(`${as} ${header}`)) issue(index, "header", "each header once");
      seen.add(`${as} ${header}`);
    });
  });

export type EgressDefinition = z.output<typeof egressSchema>;
