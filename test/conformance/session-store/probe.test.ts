import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { openBackend, SessionStore } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

/** A server that speaks as much of the S3 API as the probe needs and, as some do, pays no heed to `If-None-Match`. */
function serverWithoutConditions() {
  const objects = new Map<string, Buffer>();
  const server = createServer(async (request, response) => {
    const key = new URL(request.url ?? "/", "http://localhost").pathname;
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = objects.get(key);
    if (request.method === "PUT") objects.set(key, Buffer.concat(parts));
    if (request.method === "POST") objects.clear();
    if (request.method === "GET" && body === undefined) response.statusCode = 404;
    response.end(request.method === "GET" ? body : undefined);
  });
  return { server, objects };
}

describe("the probe", () => {
  const { server, objects } = serverWithoutConditions();

  beforeEach(async () => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it("refuses a server that ignores If-None-Match, says so, and cleans up", async () => {
    const backend = openBackend("s3://bucket/prefix", {
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      forcePathStyle: true,
      region: "us-east-1",
      credentials: { accessKeyId: "a", secretAccessKey: "s" },
    });
    const store = new SessionStore({ backend });
    await expect(store.probe()).rejects.toMatchObject({
      code: "STORE_NOT_CONDITIONAL",
      message: expect.stringContaining("If-None-Match"),
    });
    expect(objects.size).toBe(0);
    await store.close();
  });
});
