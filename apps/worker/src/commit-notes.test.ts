import type { Commit } from "@longshore/session-store";
import {
  type AcceptedMessage,
  type CommitNote,
  endMessage,
  RECENT_MESSAGES,
  type Reply,
} from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { nextNote, publishedReplies, readNote } from "./commit-notes.ts";

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

const answered = (id: string, parent?: CommitNote): CommitNote =>
  nextNote(parent, {
    agent: "shell",
    ends: [endMessage(message(id), "answered")],
    undelivered: [],
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
    const first = nextNote(undefined, { agent: "a", agentSessionId: "x", replies: [reply], undelivered: [] });
    const second = nextNote(first, { agent: "a", undelivered: [] });
    expect(second).toMatchObject({ agentSessionId: "x", ends: [], replies: [] });
    expect(nextNote(second, { agent: "a", agentSessionId: "y", undelivered: [] }).agentSessionId).toBe("y");
    const none = nextNote(second, { agent: "a", agentSessionId: undefined, undelivered: [] });
    expect(none).not.toHaveProperty("agentSessionId");
  });

  it("says of a checkpoint what its turn began from, and of no later commit", () => {
    const checkpoint = nextNote(undefined, { agent: "a", wholeGeneration: 7, undelivered: [] });
    expect(checkpoint.wholeGeneration).toBe(7);
    expect(nextNote(checkpoint, { agent: "a", undelivered: [] })).not.toHaveProperty("wholeGeneration");
  });
});

describe("publishedReplies", () => {
  it("gives the same ids for the same commit, others for another (I6)", () => {
    const note = nextNote(undefined, {
      agent: "a",
      replies: [reply, { ...reply, index: 1 }],
      undelivered: [],
    });
    const ids = (id: string) => publishedReplies(commitOf(note, id), note, ref).map((made) => made.id);
    expect(ids("first")).toEqual(ids("first"));
    expect(new Set([...ids("first"), ...ids("second")]).size).toBe(4);
    expect(publishedReplies(commitOf(note), note, ref)[0]).toMatchObject({ ...ref, generation: 3 });
  });
});
