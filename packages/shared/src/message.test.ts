import { describe, expect, it } from "vitest";
import {
  inboundJobSchema,
  MESSAGE_ATTACHMENTS_MAX,
  MESSAGE_TEXT_MAX_BYTES,
  messageSchema,
} from "./message.ts";

const message = {
  id: "m1",
  agent: "helper",
  channel: "http",
  conversation: "c1",
  sender: { id: "u1" },
  text: "hello",
};

describe("messageSchema", () => {
  it("takes the smallest message and puts in the defaults", () => {
    expect(messageSchema.parse(message)).toEqual({ ...message, attachments: [], kind: "chat" });
  });

  it("takes everything that may be said", () => {
    const full = {
      ...message,
      thread: "t1",
      sender: { id: "u1", name: "Ann" },
      attachments: [{ name: "a.csv", contentType: "text/csv; charset=utf-8", kind: "file", data: "aGk=" }],
      kind: "task",
      sentAt: "2026-01-02T03:04:05+01:00",
      metadata: { a: "b", c: 1, d: true },
    };
    expect(messageSchema.parse(full)).toEqual(full);
  });

  it("counts the text in bytes, not characters", () => {
    expect(messageSchema.safeParse({ ...message, text: "x".repeat(MESSAGE_TEXT_MAX_BYTES) }).success).toBe(
      true,
    );
    expect(messageSchema.safeParse({ ...message, text: "ä".repeat(MESSAGE_TEXT_MAX_BYTES) }).success).toBe(
      false,
    );
  });

  it.each<[string, object]>([
    ["an unknown field", { mood: "good" }],
    ["an id with a line break", { id: "a\nb" }],
    ["an id that is too long", { id: "x".repeat(257) }],
    ["a number as id", { id: 5 }],
    ["an agent that is no name", { agent: "../x" }],
    ["a tenant, which the key says", { tenant: "other" }],
    ["a sender without id", { sender: { name: "Ann" } }],
    ["data that is not base64", { attachments: [{ data: "%%%" }] }],
    ["an attachment without data", { attachments: [{ name: "a" }] }],
    ["a media type with a line break", { attachments: [{ contentType: "text/csv\r\nX: y", data: "" }] }],
    ["too many attachments", { attachments: Array(MESSAGE_ATTACHMENTS_MAX + 1).fill({ data: "" }) }],
    ["a time without offset", { sentAt: "2026-01-02T03:04:05" }],
    [
      "too much metadata",
      { metadata: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, 1])) },
    ],
    ["nested metadata", { metadata: { a: {} } }],
  ])("refuses %s", (_what, change) => {
    expect(messageSchema.safeParse({ ...message, ...change }).success).toBe(false);
  });
});

describe("inboundJobSchema", () => {
  it("needs the tenant", () => {
    expect(inboundJobSchema.safeParse(message).success).toBe(false);
    expect(inboundJobSchema.safeParse({ ...message, tenant: "default" }).success).toBe(true);
  });
});
