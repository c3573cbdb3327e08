import { describe, expect, it } from "vitest";
import { messageKey } from "./keys.ts";
import {
  deriveMessageId,
  deriveOperationId,
  deriveReplyId,
  deriveSessionId,
  hashId,
  isSessionId,
  sessionModes,
  sessionOfMessageId,
} from "./session-id.ts";

const of = { tenant: "default", agent: "helper", channel: "http", conversation: "c1", thread: "t1" };

describe("deriveSessionId", () => {
  it("gives these ids for good: they are in object keys and in Redis", () => {
    expect(sessionModes.map((mode) => [mode, deriveSessionId(mode, of)])).toMatchInlineSnapshot(`
      [
        [
          "shared",
          "i7bowc7a5qnvdmzymx2ufrgq2h",
        ],
        [
          "per-thread",
          "hkgeprkefjbph7wvop66c22pyp",
        ],
        [
          "agent-shared",
          "hiud5ryncoar53r2mql6jknxhu",
        ],
      ]
    `);
  });

  it.each<[(typeof sessionModes)[number], readonly string[]]>([
    ["shared", ["tenant", "agent", "channel", "conversation"]],
    ["per-thread", ["tenant", "agent", "channel", "conversation", "thread"]],
    ["agent-shared", ["tenant", "agent"]],
  ])("tells sessions apart in mode %s by exactly %j", (mode, parts) => {
    const base = deriveSessionId(mode, of);
    const telling = Object.keys(of).filter(
      (part) => deriveSessionId(mode, { ...of, [part]: "other" }) !== base,
    );
    expect(telling.sort()).toEqual([...parts].sort());
  });

  it("keeps the modes apart", () => {
    expect(new Set(sessionModes.map((mode) => deriveSessionId(mode, of))).size).toBe(sessionModes.length);
  });

  it("takes no thread and an empty thread for the same", () => {
    const { thread: _, ...without } = of;
    expect(deriveSessionId("per-thread", without)).toBe(deriveSessionId("per-thread", { ...of, thread: "" }));
  });
});

describe("hashId", () => {
  it("does not let the parts run together", () => {
    const ids = [
      hashId("a", "bc"),
      hashId("ab", "c"),
      hashId("abc"),
      hashId("a", "b", "c"),
      hashId('a","bc'),
    ];
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("gives 26 characters of base32", () => {
    for (let index = 0; index < 200; index++) expect(isSessionId(hashId(String(index)))).toBe(true);
  });
});

describe("message ids", () => {
  const sessionId = deriveSessionId("shared", of);

  it("carry their session", () => {
    const id = deriveMessageId(sessionId, "sender's id: with {braces}");
    expect(sessionOfMessageId(id)).toBe(sessionId);
    expect(messageKey(id)).toMatch(new RegExp(`^longshore:\\{${sessionId}\\}:message:[a-z2-7]{26}$`));
  });

  it.each(["", "x", sessionId, `${sessionId}-`, `${sessionId}-${sessionId}x`, `${sessionId}-${sessionId}\n`])(
    "refuses %j, which is none",
    (text) => {
      expect(sessionOfMessageId(text)).toBeUndefined();
      expect(() => messageKey(text)).toThrow(RangeError);
    },
  );
});

describe("operation ids", () => {
  it("are those of messages, and never that of one with the same id", () => {
    const sessionId = hashId("s");
    const id = deriveOperationId(sessionId, "1");
    expect(sessionOfMessageId(id)).toBe(sessionId);
    expect(id).not.toBe(deriveMessageId(sessionId, "1"));
    expect(id).toBe(deriveOperationId(sessionId, "1"));
  });
});

describe("deriveReplyId", () => {
  it("differs by commit and index", () => {
    const ids = [
      deriveReplyId("s", "c1", 0),
      deriveReplyId("s", "c1", 1),
      deriveReplyId("s", "c2", 0),
      deriveReplyId("t", "c1", 0),
    ];
    expect(new Set(ids).size).toBe(ids.length);
  });
});
