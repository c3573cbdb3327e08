import { request } from "node:http";
import type { Socket } from "node:net";
import type { EngineAddress } from "./address.ts";

const ERROR_BODY_BYTES_MAX = 4096;

/** The engine answered something else than an upgrade. */
export class AttachRefused extends Error {
  readonly statusCode: number;

  constructor(statusCode: number, body: string) {
    super(body);
    this.statusCode = statusCode;
  }
}

/**
 * Attaches to a container's three streams by our own protocol upgrade: a request without a body. (The
 * client library's attach sends its options as JSON, which Podman hands to the container as input.)
 * @param signal ends the attempt, not the stream that came of it
 */
export function attachStream(
  address: EngineAddress,
  containerId: string,
  signal: AbortSignal,
): Promise<{ readonly socket: Socket; readonly head: Buffer }> {
  const result = Promise.withResolvers<{ socket: Socket; head: Buffer }>();
  const attempt = request({
    ...address,
    method: "POST",
    path: `/containers/${containerId}/attach?stream=1&stdin=1&stdout=1&stderr=1`,
    headers: { Host: "docker", Connection: "Upgrade", Upgrade: "tcp" },
    agent: false,
  });
  const abort = () => attempt.destroy(signal.reason as Error);
  signal.addEventListener("abort", abort, { once: true });
  attempt.once("upgrade", (_response, socket, head) => result.resolve({ socket: socket as Socket, head }));
  attempt.once("response", (response) => {
    let body = "";
    response.setEncoding("utf8");
    response.on("data", (text: string) => {
      if (body.length < ERROR_BODY_BYTES_MAX) body += text;
    });
    response.once("close", () => result.reject(new AttachRefused(response.statusCode ?? 0, body)));
  });
  attempt.on("error", (error) => result.reject(error));
  attempt.end();
  return result.promise.finally(() => signal.removeEventListener("abort", abort));
}
