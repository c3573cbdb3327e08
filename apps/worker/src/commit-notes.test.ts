import type { Commit } from "@longshore/session-store";
import {
  type AcceptedMessage,
  type CommitNote,
  endMessage,
  RECENT_MESSAGES,
  type Reply,
} from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { nextNote, publishedReplies, readNote, sentBefore } from "./commit-notes.ts";

const ref = { tenant: "acme", sessionId: "s" };
const reply: Reply = {
  index: 0,
  kind: "answer",
  channel: "http",
  conversation: "c",
  text: "hello",
  artifacts: [],
  inReplyTo: ["s-1"],
};

function commitOf(note: Commit["note"], id = "first"): Commit {
  return {
    generation: 3,
    parent: 2,
    epoch: 1,
    nonce: "n",
    id,
    worker: "w",
    time: "2026-01-01T00:00:00.000Z",
    kind: "turn",
    partial: false,
    note,
    entries: 0,
    totalBytes: 0,
    chain: { deltas: [] },
    delta: undefined,
    inline: Buffer.alloc(0),
  };
}

function message(id: string): AcceptedMessage {
  return {
    id,
    ...ref,
    agent: "shell",
    channel: "http",
    conversation: "c",
    sender: { id: "u" },
    text: "hi",
    attachments: [],
    kind: "chat",
    acceptedAt: "2026-01-01T00:00:00.000Z",
  };
}

it("sums what turns used, and keeps what the agent last said of its context", () => {
  const ends = [endMessage(message("m"), "answered")];
  const next = { agent: "shell", ends, undelivered: [], generation: 1 };
  const first = nextNote(undefined, {
    ...next,
    usage: { tokens: { input: 3, output: 4 }, context: { usedTokens: 7, sizeTokens: 10 } },
  });
  const between = nextNote(first, next);
  const last = nextNote(between, { ...next, usage: { tokens: { input: 2, cachedRead: 5 } } });
  expect(last.usage).toEqual({
    tokens: { input: 5, output: 4, cachedRead: 5 },
    context: { usedTokens: 7, sizeTokens: 10 },
  });
});

const answered = (id: string, parent?: CommitNote): CommitNote =>
  nextNote(parent, {
    agent: "shell",
    ends: [endMessage(message(id), "answered")],
    undelivered: [],
    generation: 9,
  });

describe("readNote", () => {
  it("reads what nextNote made, after JSON", () => {
    const note = answered("s-1");
    expect(readNote(commitOf(JSON.parse(JSON.stringify(note))))).toEqual(note);
  });

  it("gives nothing for a commit that the fleet did not make, and for none", () => {
    expect(readNote(undefined)).toBeUndefined();
    expect(readNote(commitOf({}))).toBeUndefined();
  });

  it("refuses to go on over one that it can't read: what it ends would be answered again", () => {
    const newer = JSON.parse(JSON.stringify({ ...answered("s-1"), somethingNew: true }));
    expect(() => readNote(commitOf(newer))).toThrow(
      expect.objectContaining({ code: "COMMIT_NOTE_UNREADABLE", retryable: true }),
    );
  });
});

describe("nextNote", () => {
  it("carries the ids of ended messages on, up to a bound, the newest last", () => {
    let note: CommitNote | undefined;
    for (let index = 0; index < RECENT_MESSAGES + 5; index++) note = answered(`s-${index}`, note);
    expect(note?.recent).toHaveLength(RECENT_MESSAGES);
    expect(note?.recent[0]).toBe("s-5");
    expect(note?.recent.at(-1)).toBe(`s-${RECENT_MESSAGES + 4}`);
  });

  it("carries the agent's session on until there is a new one, and no ends or replies", () => {
    const first = nextNote(undefined, {
      agent: "a",
      agentSessionId: "x",
      replies: [reply],
      undelivered: [],
      generation: 9,
    });
    const second = nextNote(first, { agent: "a", undelivered: [], generation: 9 });
    expect(second).toMatchObject({ agentSessionId: "x", ends: [], replies: [] });
    expect(
      nextNote(second, { agent: "a", agentSessionId: "y", undelivered: [], generation: 9 }).agentSessionId,
    ).toBe("y");
    const none = nextNote(second, { agent: "a", agentSessionId: undefined, undelivered: [], generation: 9 });
    expect(none).not.toHaveProperty("agentSessionId");
  });

  it("says of a checkpoint what its turn began from, and of no later commit", () => {
    const checkpoint = nextNote(undefined, {
      agent: "a",
      wholeGeneration: 7,
      undelivered: [],
      generation: 9,
    });
    expect(checkpoint.wholeGeneration).toBe(7);
    expect(nextNote(checkpoint, { agent: "a", undelivered: [], generation: 9 })).not.toHaveProperty(
      "wholeGeneration",
    );
  });
});

describe("publishedReplies", () => {
  it("gives the same ids for the same commit, others for another (I6)", () => {
    const note = nextNote(undefined, {
      agent: "a",
      replies: [reply, { ...reply, index: 1 }],
      undelivered: [],
      generation: 9,
    });
    const ids = (id: string) => publishedReplies(commitOf(note, id), note, ref).map((made) => made.id);
    expect(ids("first")).toEqual(ids("first"));
    expect(new Set([...ids("first"), ...ids("second")]).size).toBe(4);
    expect(publishedReplies(commitOf(note), note, ref)[0]).toMatchObject({ ...ref, generation: 3 });
  });
});

describe("what was sent before a turn ended", () => {
  const ended = endMessage(
    {
      ...{ id: "m", tenant: "t", sessionId: "s", agent: "a", channel: "http", conversation: "c" },
      ...{
        sender: { id: "u" },
        text: "",
        attachments: [],
        kind: "chat",
        acceptedAt: "2026-01-01T00:00:00.000Z",
      },
    },
    "answered",
  );
  const at = (generation: number) => ({ agent: "a", undelivered: [], generation });

  it("is carried on, attempt after attempt, up to the commit that ends the messages", () => {
    const first = nextNote(undefined, { ...at(1), sends: "one" });
    const undone = nextNote(first, at(2));
    const second = nextNote(undone, { ...at(3), sends: "two" });
    expect(sentBefore(second)).toEqual([
      { generation: 1, text: "one" },
      { generation: 3, text: "two" },
    ]);
    const answered = nextNote(second, { ...at(4), ends: [ended] });
    expect(answered.sent).toHaveLength(2);
    // What comes then is another turn's.
    expect(sentBefore(answered)).toEqual([]);
    expect(nextNote(answered, at(5))).not.toHaveProperty("sent");
  });

  it("is bounded", () => {
    let note = nextNote(undefined, at(1));
    for (let generation = 2; generation < 60; generation++)
      note = nextNote(note, { ...at(generation), sends: "x".repeat(100_000) });
    expect(note.sent).toHaveLength(20);
    expect(JSON.stringify(note).length).toBeLessThan(50_000);
    expect(note.sent?.at(-1)?.generation).toBe(59);
  });
});
