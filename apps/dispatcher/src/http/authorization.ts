import type { Configuration, Scope } from "@longshore/shared";
import type { FastifyRequest } from "fastify";
import { ApiError } from "./api-error.ts";
import { Authenticator, type Identity } from "./authentication.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Set before any handler runs, but for the routes that are open. */
    identity: Identity | undefined;
  }
  interface FastifyContextConfig {
    /** Answered without a key. */
    open?: true;
    /** What the key must be allowed, and that it is a tenant's. */
    scope?: Scope;
    /** For operators, of a tenant or of the fleet: the key must be allowed to operate. */
    operator?: true;
    /** The longest JSON body, in bytes. @default the longest message that one of the tenant's agents takes */
    bodyBytes?: number;
  }
}

/** Where bull-board is; browsers can't send a bearer key, so basic authentication holds there, and only there. */
export const BOARD_PATH = "/queues";

export function isBoard({ url }: FastifyRequest): boolean {
  return url === BOARD_PATH || url.startsWith(`${BOARD_PATH}/`) || url.startsWith(`${BOARD_PATH}?`);
}

/** Says who may do what: each route by its `config`, everything else by having a key at all. */
export class Authorization {
  readonly #authenticator: Authenticator;

  constructor(configuration: () => Configuration) {
    this.#authenticator = new Authenticator(configuration);
  }

  /** Sets the request's identity. Throws `ApiError` `UNAUTHENTICATED`, `FORBIDDEN`. */
  check(request: FastifyRequest): void {
    const { open, scope, operator } = request.routeOptions.config;
    if (open) return;
    const identity = this.#identify(request);
    request.identity = identity;
    if (isBoard(request)) checkOperator(request, identity);
    if (scope !== undefined) checkScope(identity, scope);
    if (operator && !identity.scopes.has("operate"))
      throw new ApiError(403, "FORBIDDEN", 'The key lacks the scope "operate"');
  }

  /** For requests that reach no route. Throws `ApiError` `UNAUTHENTICATED`. */
  checkKey(request: FastifyRequest): void {
    this.#identify(request);
  }

  #identify(request: FastifyRequest): Identity {
    const { authorization } = request.headers;
    const identity =
      this.#authenticator.bearer(authorization) ??
      (isBoard(request) ? this.#authenticator.basic(authorization) : undefined);
    if (identity === undefined) throw new ApiError(401, "UNAUTHENTICATED", "A valid key is needed");
    return identity;
  }
}

function checkScope({ tenant, scopes }: Identity, scope: Scope): void {
  if (tenant === undefined)
    throw new ApiError(403, "FORBIDDEN", "An operator's key belongs to no tenant: use a tenant's key");
  if (!scopes.has(scope)) throw new ApiError(403, "FORBIDDEN", `The key lacks the scope "${scope}"`);
}

function checkOperator({ method, headers }: FastifyRequest, { tenant, scopes }: Identity): void {
  if (tenant !== undefined || !scopes.has("operate"))
    throw new ApiError(403, "FORBIDDEN", "Queues are for the operators of the fleet");
  // A browser adds basic credentials to what other sites make it send, too.
  const site = headers["sec-fetch-site"];
  const harmless = method === "GET" || method === "HEAD";
  if (!harmless && site !== undefined && site !== "same-origin" && site !== "none")
    throw new ApiError(403, "FORBIDDEN", "A change has to come from this page");
}
