import {
  type EgressDefinition,
  type EgressPattern,
  hostName,
  matchesEgress,
  parseEgressPattern,
} from "@longshore/shared";
import { EgressRefusal } from "./decision.ts";

/** A server that the agent reaches below a path of the proxy, with credentials that it does not have. */
export interface CredentialRoute {
  readonly host: string;
  readonly port: number;
  /** Whether it may be in the operator's own network. */
  readonly isPrivate: boolean;
  /** Before the path of each request, without a slash at its end. */
  readonly basePath: string;
  /** By the header's name in lower case. */
  readonly secrets: ReadonlyMap<string, string>;
}

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** What an agent's definition lets out. */
export class EgressPolicy {
  readonly #patterns: readonly EgressPattern[];
  readonly #routes = new Map<string, CredentialRoute & { readonly secrets: Map<string, string> }>();

  constructor({ allow, credentials }: Pick<EgressDefinition, "allow" | "credentials">) {
    this.#patterns = allow.map(parseEgressPattern).filter((pattern) => typeof pattern !== "string");
    for (const { as, upstream, header, secret, private: isPrivate } of credentials) {
      const { hostname, port, pathname } = new URL(upstream);
      const route = this.#routes.get(as) ?? {
        host: hostname,
        port: Number(port || 443),
        isPrivate,
        basePath: pathname.replace(/\/$/, ""),
        secrets: new Map<string, string>(),
      };
      route.secrets.set(header, secret);
      this.#routes.set(as, route);
    }
  }

  /** @throws EgressRefusal unless the host and port are allowed */
  requireAllowed(written: string, port: number): Target {
    const host = hostName(written);
    if (host === undefined || !this.#patterns.some((pattern) => matchesEgress(pattern, host, port))) {
      throw new EgressRefusal("denied_host", 403, "the host and port are not allowed");
    }
    return { host, port };
  }

  /**
   * The server behind a path of the proxy itself, and the path there.
   * @throws EgressRefusal where there is none
   */
  route(url: string): { readonly route: CredentialRoute; readonly path: string } {
    const [, as = "", rest = ""] = /^(\/[A-Za-z0-9_-]+)([/?].*)?$/.exec(url) ?? [];
    const route = this.#routes.get(as);
    if (route === undefined) throw new EgressRefusal("denied_host", 404, "nothing is reached by this path");
    const [path = ""] = rest.split("?");
    // Some servers read them so, and would leave the part that the credential is for.
    if (/(^|[/\\])(\.|%2e){1,2}([/\\;]|%2f|%5c|$)/i.test(path) || /%2f|%5c/i.test(path)) {
      throw new EgressRefusal("malformed", 400, "the path leads elsewhere");
    }
    return { route, path: `${route.basePath}${rest}` || "/" };
  }
}
