import { describe, expect, it } from "vitest";
import { commitNoteSchema, endMessage } from "./commit-note.ts";
import { acceptedMessageSchema, inboundJobSchema, messageSchema } from "./message.ts";
import { OPERATION_PATHS_MAX, operationPathBytes, operationSchema } from "./operation.ts";

const sha256 = "0".repeat(64);
const file = { path: "workspace/a", sha256, sizeBytes: 3 };
const upload = { type: "upload", set: [file], remove: ["workspace/b"] };
const rollback = { type: "rollback", generation: 3 };

const accepted = {
  id: "session-message",
  tenant: "default",
  sessionId: "session",
  agent: "helper",
  channel: "http",
  conversation: "c1",
  sender: { id: "u1" },
  text: "",
  attachments: [],
  kind: "system",
  acceptedAt: "2026-01-02T03:04:05Z",
};

describe("operationSchema", () => {
  it.each<[string, object]>([
    ["an upload", upload],
    [
      "everything of a file",
      { ...upload, set: [{ ...file, mode: 0o755, modifiedAt: "2026-01-02T03:04:05.678Z" }] },
    ],
    ["a name that is not UTF-8", { ...upload, set: [{ ...file, path: { base64: "d29ya3NwYWNlL_8" } }] }],
    [
      "directories and links",
      {
        ...upload,
        directories: [{ path: "workspace/empty", mode: 0o700 }],
        links: [
          { path: "workspace/l", target: "/etc/passwd" },
          { path: "workspace/m", target: { base64: "_w" } },
        ],
      },
    ],
    ["only removals", { ...upload, set: [] }],
    ["a rollback", rollback],
  ])("takes %s", (_what, operation) => {
    expect(operationSchema.parse(operation)).toEqual(operation);
  });

  it.each<[string, object]>([
    ["nothing to do", { ...upload, set: [], remove: [] }],
    ["a path that leads out", { ...upload, set: [{ ...file, path: "workspace/../../etc/passwd" }] }],
    ["an absolute path", { ...upload, remove: ["/etc/passwd"] }],
    ["bytes that lead out", { ...upload, remove: [{ base64: Buffer.from("../a").toString("base64url") }] }],
    ["bytes that are not base64url", { ...upload, remove: [{ base64: "a+b" }] }],
    ["half a character", { ...upload, remove: ["a\ud800"] }],
    ["a hash that is none", { ...upload, set: [{ ...file, sha256: "../../x" }] }],
    ["set-id bits", { ...upload, set: [{ ...file, mode: 0o4755 }] }],
    ["a negative size", { ...upload, set: [{ ...file, sizeBytes: -1 }] }],
    ["the same path twice", { ...upload, set: [file, file] }],
    [
      "the same path twice in two ways",
      {
        ...upload,
        set: [file, { ...file, path: { base64: Buffer.from(file.path).toString("base64url") } }],
      },
    ],
    ["a file and a link in one place", { ...upload, links: [{ path: file.path, target: "x" }] }],
    ["a link without a target", { ...upload, links: [{ path: "workspace/l", target: "" }] }],
    ["a link's target with a NUL", { ...upload, links: [{ path: "workspace/l", target: "a\0b" }] }],
    ["a directory that leads out", { ...upload, directories: [{ path: "../x" }] }],
    ["too many paths", { ...upload, remove: Array.from({ length: OPERATION_PATHS_MAX }, (_, i) => `f${i}`) }],
    [
      "too much text",
      { ...upload, remove: Array.from({ length: 2_100 }, () => "d/".repeat(2_000).concat("f")) },
    ],
    ["generation 0", { type: "rollback", generation: 0 }],
    ["another type", { type: "delete" }],
  ])("refuses %s", (_what, operation) => {
    expect(operationSchema.safeParse(operation).success).toBe(false);
  });
});

describe("an operation", () => {
  it("is nothing that a sender can write", () => {
    const message = {
      id: "1",
      agent: "helper",
      channel: "http",
      conversation: "c",
      sender: { id: "u" },
      text: "",
    };
    expect(messageSchema.safeParse(message).success).toBe(true);
    expect(messageSchema.safeParse({ ...message, operation: rollback }).success).toBe(false);
    expect(inboundJobSchema.safeParse({ ...message, tenant: "default" }).success).toBe(true);
    expect(inboundJobSchema.safeParse({ ...message, tenant: "default", operation: rollback }).success).toBe(
      false,
    );
  });

  it("is part of an accepted message, and without its files of the commit that ends it", () => {
    const message = acceptedMessageSchema.parse({ ...accepted, operation: upload });
    const end = endMessage(message, "answered");
    expect(end.message.operation).toEqual({ type: "upload", set: 1, remove: 1 });
    const note = { agent: "helper", ends: [end], replies: [], undelivered: [], recent: [] };
    expect(commitNoteSchema.parse(note)).toEqual(note);
  });

  it("leaves a message that has none as it is", () => {
    const message = acceptedMessageSchema.parse(accepted);
    const error = { code: "X", message: "y" };
    expect(endMessage(message, "dead", error)).toEqual({ message, outcome: "dead", error });
  });

  it("names its paths as bytes", () => {
    expect(operationPathBytes("ä")).toEqual(Buffer.from("ä"));
    expect(operationPathBytes({ base64: "_w" })).toEqual(Buffer.from([0xff]));
  });
});
