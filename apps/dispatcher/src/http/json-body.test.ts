import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import type { FastifyRequest } from "fastify";
import { expect, it } from "vitest";
import { JsonBodies } from "./json-body.ts";

const BODY = JSON.stringify("x".repeat(58));

const requestOf = (headers: Record<string, string>, destroyed = false) =>
  ({ headers, raw: { socket: { destroyed } } }) as unknown as FastifyRequest;
const payloadOf = (text: string) => Readable.from([Buffer.from(text)]) as IncomingMessage;

it("bodies share a budget until they are needed no more", async () => {
  const bodies = new JsonBodies({ limit: () => 100, budgetBytes: 100 });
  const first = requestOf({ "content-length": "60" });
  expect(await bodies.read(first, payloadOf(BODY))).toHaveLength(58);
  const second = requestOf({ "content-length": "60" });
  await expect(bodies.read(second, payloadOf(BODY))).rejects.toMatchObject({ status: 503, code: "BUSY" });
  const isUsed = bodies.takeOver(first);
  // Its connection has ended, and it is at work still.
  bodies.release(first);
  await expect(bodies.read(second, payloadOf(BODY))).rejects.toMatchObject({ code: "BUSY" });
  isUsed();
  await bodies.read(second, payloadOf(BODY));
  bodies.release(second);
  bodies.release(second);
  await bodies.read(first, payloadOf(BODY));
});

it("a body of unknown length counts as what it has once it is there, and one that is none not at all", async () => {
  const bodies = new JsonBodies({ limit: () => 100, budgetBytes: 100 });
  await expect(bodies.read(requestOf({}), payloadOf("no JSON"))).rejects.toMatchObject({
    code: "MALFORMED_JSON",
  });
  await bodies.read(requestOf({}), payloadOf("1"));
  const large = requestOf({ "content-length": "60" });
  await bodies.read(large, payloadOf(BODY));
  await expect(bodies.read(requestOf({}), payloadOf("1"))).rejects.toMatchObject({ code: "BUSY" });
  bodies.release(large);
});

it("a body whose connection has ended already is not counted for ever", async () => {
  const bodies = new JsonBodies({ limit: () => 100, budgetBytes: 100 });
  await bodies.read(requestOf({ "content-length": "60" }, true), payloadOf(BODY));
  await bodies.read(requestOf({ "content-length": "60" }), payloadOf(BODY));
});
