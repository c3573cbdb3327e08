import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";

/** What the worker asks the engine for when it makes a container. */
export interface CreateRequest {
  Env: string[];
  HostConfig: Record<string, unknown> & { Mounts: object[] };
}

/**
 * Stands before an engine and changes what containers are made of: a runtime whose walls are taken down one by one,
 * without an option of the product that could take them down.
 */
export async function alterEngine(
  dockerHost: string,
  path: string,
  alter: (request: CreateRequest) => void,
): Promise<Server> {
  const { protocol, pathname, hostname, port } = new URL(dockerHost);
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const engine = connect(
      protocol === "unix:" ? { path: pathname } : { host: hostname, port: Number(port) },
    );
    for (const side of [client, engine]) {
      side.on("error", () => undefined);
      side.on("close", () => {
        client.destroy();
        engine.destroy();
      });
    }
    engine.pipe(client);
    // Each request has a connection of its own.
    let bytes = Buffer.alloc(0);
    const gather = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk]);
      const request = wholeRequest(bytes, alter);
      if (request === undefined) return;
      client.off("data", gather);
      engine.write(request);
      client.pipe(engine);
    };
    client.on("data", gather);
  });
  await once(server.listen(path), "listening");
  return server;
}

/** Undefined until all that has to be seen is there. */
function wholeRequest(bytes: Buffer, alter: (request: CreateRequest) => void): Buffer | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  if (headEnd === -1) return undefined;
  const head = bytes.subarray(0, headEnd).toString("latin1");
  if (!/^POST \S*\/containers\/create/.test(head)) return bytes;
  const length = Number(/content-length: (\d+)/i.exec(head)?.[1]);
  const body = bytes.subarray(headEnd + 4);
  if (body.length < length) return undefined;
  const request = JSON.parse(body.toString()) as CreateRequest;
  alter(request);
  const altered = Buffer.from(JSON.stringify(request));
  const newHead = head.replace(/content-length: \d+/i, `Content-Length: ${altered.length}`);
  return Buffer.concat([Buffer.from(`${newHead}\r\n\r\n`, "latin1"), altered]);
}
