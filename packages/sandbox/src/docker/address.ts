import { SandboxSpecError } from "../errors.ts";

/** Where the engine listens. */
export type EngineAddress =
  | { readonly socketPath: string }
  | { readonly hostname: string; readonly port: number };

/**
 * Reads an engine's address as `DOCKER_HOST` has it.
 * @param address `unix:///absolute/path` or `tcp://host:port`
 * @throws SandboxSpecError on anything else
 */
export function parseEngineAddress(address: string): EngineAddress {
  if (address.startsWith("unix:///")) return { socketPath: address.slice("unix://".length) };
  const url = URL.parse(address);
  if (url?.protocol !== "tcp:" || url.hostname === "" || !/^\/?$/.test(url.pathname)) {
    throw new SandboxSpecError(
      "address",
      `unix:///path or tcp://host:port, not ${JSON.stringify(address)} (TLS and ssh: put a local proxy in between)`,
    );
  }
  return { hostname: url.hostname.replace(/^\[|\]$/g, ""), port: Number(url.port || 2375) };
}
