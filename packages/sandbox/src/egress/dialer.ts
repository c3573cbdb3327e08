import { lookup } from "node:dns/promises";
import { connect, isIP, type Socket } from "node:net";
import { EgressRefusal } from "./decision.ts";
import { isPublicAddress, isPublicOrPrivateAddress } from "./public-address.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** Of a name with many addresses the first few are tried. */
const ADDRESSES_TRIED_MAX = 4;

export interface DialerOptions {
  /** All addresses of a name. @default the host's own resolver */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
  /** @default those of the public internet; a test has its servers elsewhere */
  readonly mayDial?: (address: string) => boolean;
}

export interface DialTarget {
  readonly host: string;
  readonly port: number;
  readonly isPrivate?: boolean;
}

/**
 * Connects to hosts by name. The name is resolved here, once, and the addresses that were checked are the ones
 * that are dialled: a name that means another address a moment later gains nothing.
 */
export class Dialer {
  readonly #resolve: (host: string) => Promise<readonly string[]>;
  readonly #mayDial: (address: string) => boolean;

  constructor(options: DialerOptions = {}) {
    this.#resolve = options.resolve ?? resolveByHost;
    this.#mayDial = options.mayDial ?? isPublicAddress;
  }

  /**
   * @param target.isPrivate the host may be in the operator's own network. Only for a host that the operator wrote
   *   down, which no agent chooses.
   * @throws EgressRefusal
   */
  async dial({ host, port, isPrivate = false }: DialTarget): Promise<Socket> {
    let addresses: readonly string[];
    try {
      addresses = await this.#resolve(host);
    } catch {
      throw new EgressRefusal("unreachable", 502, "the host's name can't be resolved");
    }
    // One address of the inside among others is no accident.
    if (!addresses.every(isPrivate ? isPublicOrPrivateAddress : this.#mayDial)) {
      throw new EgressRefusal("denied_address", 403, "the host has an address that may not be dialled");
    }
    for (const address of addresses.slice(0, ADDRESSES_TRIED_MAX)) {
      const socket = await connectTo(address, port);
      if (socket !== undefined) return socket;
    }
    throw new EgressRefusal("unreachable", 502, "the host can't be reached");
  }
}

async function resolveByHost(host: string): Promise<string[]> {
  if (isIP(host) !== 0) return [host];
  // With the dot at its end the name is whole: no search domain of the host's network is tried.
  return (await lookup(`${host}.`, { all: true })).map(({ address }) => address);
}

function connectTo(address: string, port: number): Promise<Socket | undefined> {
  const result = Promise.withResolvers<Socket | undefined>();
  const socket = connect({ host: address, port, allowHalfOpen: true, noDelay: true });
  const fail = () => {
    socket.destroy();
    result.resolve(undefined);
  };
  socket.setTimeout(CONNECT_TIMEOUT_MS, fail);
  socket.once("error", fail);
  socket.once("connect", () => {
    socket.setTimeout(0);
    socket.removeAllListeners("timeout");
    socket.off("error", fail);
    // Its end tells whoever uses it.
    socket.on("error", () => undefined);
    result.resolve(socket);
  });
  return result.promise;
}
