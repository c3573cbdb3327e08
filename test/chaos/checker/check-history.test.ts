import type { Commit } from "@longshore/session-store";
import type { CommitNote, MessageRecord } from "@longshore/shared";
import { deriveReplyId } from "@longshore/shared";
import { expect, it } from "vitest";
import type { History, ReplyCall, RestoredGeneration, SentMessage, SessionHistory } from "../history.ts";
import type { MessageKind } from "../planned-message.ts";
import { checkHistory } from "./check-history.ts";

const NO_BLOB = "4294967295 0";

/** A session of three messages, each answered by a generation, all as it should be. */
function goodSession(): SessionHistory {
  const messages = [1, 2, 3].map((seq) => sent(`m${seq}`, "count", seq));
  const generations = [1, 2, 3].map((number) => generation(number));
  return {
    conversation: "c",
    sessionId: "s",
    messages,
    hasVolume: false,
    refuses: false,
    mayBeCancelled: () => false,
    generations,
    calls: generations.map(call),
    records: new Map(
      messages.map(({ planned }) => [planned.id, { state: "answered" } as unknown as MessageRecord]),
    ),
    waiting: 0,
    undelivered: 0,
  };
}

function sent(id: string, kind: MessageKind, seq: number): SentMessage {
  return {
    planned: { id, kind, text: id, way: "http", isTwice: false, pauseMs: 0 },
    sentAt: seq,
    acceptances: [{ at: seq, messageId: id, seq, duplicate: false }],
  };
}

/** One that was added to the queue `inbound`. */
function queued(id: string, at: number): SentMessage {
  const { planned, ...rest } = sent(id, "count", at);
  return {
    ...rest,
    planned: { ...planned, way: "inbound" },
    acceptances: [{ at, messageId: id, seq: null, duplicate: false }],
  };
}

function endsAs({ generations }: SessionHistory, index: number, outcome: "dead" | "cancelled") {
  return generations[index]?.note.ends.map((end) => ({ ...end, outcome })) ?? [];
}

function generation(number: number, ends = `m${number}`): RestoredGeneration {
  const note = {
    ends: [{ message: { id: ends, text: ends }, outcome: "answered" }],
    replies: [{ index: 0, kind: "answer", text: `turn ${number} of ${ends} with ${NO_BLOB}` }],
  };
  const commit = {
    ...{ generation: number, parent: number - 1, epoch: 1, nonce: "n", worker: "w", id: `commit-${number}` },
    ...{ partial: false, kind: "turn" },
  };
  return { commit: commit as Commit, note: note as unknown as CommitNote, counter: number };
}

function call({ commit, note }: RestoredGeneration): ReplyCall {
  const { generation: at } = commit;
  return {
    ...{ at, key: deriveReplyId("s", commit.id, 0), sessionId: "s", conversation: "c", status: 200 },
    ...{ text: note.replies[0]?.text ?? "", inReplyTo: [] },
  };
}

function found(change: (session: SessionHistory) => Partial<SessionHistory>, more: Partial<History> = {}) {
  const session = goodSession();
  return checkHistory({
    leaseMs: 1,
    volumeCounter: 0,
    sessions: [{ ...session, ...change(session) }],
    incidents: [],
    lateCommits: [],
    processes: [],
    strayCalls: [],
    leftovers: [],
    unfinished: [],
    ...more,
  }).map(({ check, what }) => `${check}: ${what}`);
}

/** The generations with one changed. */
function changed(
  { generations }: SessionHistory,
  index: number,
  change: { commit?: Partial<Commit>; note?: Partial<CommitNote>; counter?: number; error?: string },
): Pick<SessionHistory, "generations"> {
  return {
    generations: generations.map((before, at) =>
      at === index
        ? {
            ...before,
            ...change,
            commit: { ...before.commit, ...change.commit },
            note: { ...before.note, ...change.note },
          }
        : before,
    ),
  };
}

it("finds nothing in a good history", () => {
  expect(found(() => ({}))).toEqual([]);
});

const line = (at: number, msg: string) => ({ at, line: { level: 40, msg } });
const worker = { app: "worker", stderr: "", endedByItself: false } as const;

it.each<[string, RegExp, Parameters<typeof found>]>([
  [
    "a lost message",
    /m4 was accepted and no commit ends it/,
    [({ messages }) => ({ messages: [...messages, sent("m4", "count", 4)] })],
  ],
  [
    "one that ended twice",
    /m3 ended 2 times/,
    [({ generations }) => ({ generations: [...generations, generation(4, "m3")] })],
  ],
  [
    "an innocent dead letter",
    /m2 \(count\) is dead/,
    [(session) => changed(session, 1, { note: { ends: endsAs(session, 1, "dead") } })],
  ],
  [
    "a message that ended as cancelled and that nobody cancelled",
    /m2 \(count\) is cancelled/,
    [(session) => changed(session, 1, { note: { ends: endsAs(session, 1, "cancelled") } })],
  ],
  [
    "more counted than was answered or cancelled",
    /the counter of generation 2 is 3 after 1 turns/,
    [
      (session) => ({
        ...changed(session, 1, { note: { ends: endsAs(session, 1, "cancelled"), replies: [] }, counter: 3 }),
        mayBeCancelled: () => true,
      }),
    ],
  ],
  [
    "a queue's messages out of order",
    /m2 ended after m3, which was added to the queue after it/,
    [
      ({ messages }) => ({
        messages: [messages[0] as SentMessage, queued("m2", 2), queued("m3", 3)],
        generations: [generation(1), generation(2, "m3"), generation(3, "m2")],
      }),
    ],
  ],
  [
    "a volume that is behind its sessions",
    /the volume's counter is 2, and its sessions' are 3/,
    [() => ({ hasVolume: true }), { volumeCounter: 2 }],
  ],
  [
    "context that nobody was told",
    /m4 was accepted and no commit ends it/,
    [({ messages }) => ({ messages: [...messages, sent("m4", "context", 4)] })],
  ],
  [
    "poison that was answered",
    /m1 \(crash\) is answered/,
    [({ messages }) => ({ messages: [sent("m1", "crash", 1), ...messages.slice(1)] })],
  ],
  [
    "a message that nobody sent",
    /ends a message that nobody sent/,
    [({ messages }) => ({ messages: messages.slice(1) })],
  ],
  [
    "a message that was refused",
    /m4 was refused: 400/,
    [
      ({ messages }) => ({
        messages: [...messages, { ...sent("m4", "count", 4), acceptances: [], refusal: "400" }],
      }),
    ],
  ],
  [
    "one too large that was taken",
    /m3 was not refused/,
    [({ messages }) => ({ messages: [...messages.slice(0, 2), sent("m3", "oversized", 3)] })],
  ],
  [
    "a record that says something else",
    /its record says running/,
    [
      ({ records }) => ({
        records: new Map([...records, ["m1", { state: "running" } as unknown as MessageRecord]]),
      }),
    ],
  ],
  [
    "a duplicate taken for a new message",
    /m1 was accepted twice/,
    [
      ({ messages }) => {
        messages[0]?.acceptances.push({ at: 1, messageId: "m1", seq: 1, duplicate: false });
        return {};
      },
    ],
  ],
  [
    "messages out of order",
    /m3 ended before m2/,
    [
      ({ messages }) => ({
        messages: [...messages.slice(0, 1), sent("m3", "count", 3), sent("m2", "count", 2)],
        generations: [generation(1), generation(2, "m3"), generation(3, "m2")],
      }),
    ],
  ],
  [
    "a message accepted where its agent refuses",
    /m2 was accepted while m1 was unanswered/,
    [
      ({ records }) => {
        const record = (acceptedAt: number, endedAt: number) =>
          ({ state: "answered", acceptedAt, endedAt }) as unknown as MessageRecord;
        return {
          refuses: true,
          records: new Map([...records, ["m1", record(1, 5)], ["m2", record(4, 6)], ["m3", record(6, 7)]]),
        };
      },
    ],
  ],
  ["a message that waits for ever", /1 messages are left in the mailbox/, [() => ({ waiting: 1 })]],
  [
    "a gap",
    /generation 3 stands where 2 should/,
    [({ generations }) => ({ generations: generations.filter((_, at) => at !== 1) })],
  ],
  [
    "a generation that can't be restored",
    /generation 2 can't be restored/,
    [(session) => changed(session, 1, { error: "corrupt" })],
  ],
  [
    "a counter that is off",
    /the counter of generation 2 is 1 after 2 turns/,
    [(session) => changed(session, 1, { counter: 1 })],
  ],
  [
    "a turn that found another file",
    /m2 found the file 1 2/,
    [
      (session) =>
        changed(session, 1, {
          note: {
            replies:
              session.generations[1]?.note.replies.map((reply) => ({
                ...reply,
                text: "turn 2 of m2 with 1 2",
              })) ?? [],
          },
        }),
    ],
  ],
  [
    "an epoch that falls",
    /generation 3 has epoch 0 after 1/,
    [(session) => changed(session, 2, { commit: { epoch: 0 } })],
  ],
  [
    "an activation interrupted by another",
    /generation 3 is of an activation that another had followed/,
    [(session) => changed(session, 1, { commit: { nonce: "other", epoch: 1 } })],
  ],
  [
    "a commit of an activation that whoever opened its volume had ended",
    /generation 3 is of an activation that another had followed/,
    [
      (session) => ({
        ...changed(session, 1, { commit: { nonce: "opener", kind: "takeover" } }),
        hasVolume: true,
      }),
      { volumeCounter: 3 },
    ],
  ],
  [
    "an epoch of two activations",
    /epoch 1 is that of two activations/,
    [(session) => changed(session, 2, { commit: { nonce: "other" } })],
  ],
  [
    "a late commit that stands",
    /generation 2 is of w, whose session another had begun to serve/,
    [() => ({}), { lateCommits: [{ sessionId: "s", generation: 2, worker: "w" }] }],
  ],
  [
    "a session lost for no reason",
    /w#0 lost a session for no reason/,
    [
      () => ({}),
      {
        processes: [
          { ...worker, name: "w#0", lines: [line(1, "lost the session; what was not committed is dropped")] },
        ],
      },
    ],
  ],
  [
    "a reply without a commit",
    /a reply was sent that no commit holds/,
    [({ calls }) => ({ calls: [...calls, { ...(calls[0] as ReplyCall), key: "unknown" }] })],
  ],
  [
    "a reply with another text",
    /was sent with another text/,
    [({ calls }) => ({ calls: calls.map((one) => ({ ...one, text: "else" })) })],
  ],
  [
    "a reply delivered again",
    /was delivered again for no reason/,
    [({ calls }) => ({ calls: [...calls, calls[2] as ReplyCall] })],
  ],
  [
    "replies out of order",
    /reply 1 of the log was delivered after reply 2/,
    [({ calls }) => ({ calls: [calls[1], calls[0], calls[2]] as ReplyCall[] })],
  ],
  [
    "a reply that was only tried",
    /was not delivered/,
    [({ calls }) => ({ calls: calls.map((one) => ({ ...one, status: 503 })) })],
  ],
  [
    "a reply of an unknown session",
    /a reply of an unknown session/,
    [() => ({}), { strayCalls: [call(generation(9))] }],
  ],
  [
    "a process that ended",
    /w#0 ended by itself/,
    [() => ({}), { processes: [{ ...worker, name: "w#0", lines: [], endedByItself: true }] }],
  ],
  ["something left behind", /left behind: a container/, [() => ({}), { leftovers: ["a container"] }]],
  ["what was not over in time", /not over in time: m9/, [() => ({}), { unfinished: ["m9"] }]],
])("finds %s", (_, expected, [change, more]) => {
  expect(found(change, more)).toContainEqual(expect.stringMatching(expected));
});

it("takes what was done to the fleet for a reason", () => {
  const again = ({ calls }: SessionHistory) => ({ calls: [...calls, calls[2] as ReplyCall] });
  const incidents = [{ kind: "k", target: "all", from: 0, until: 5, effects: ["dispatcher-gone"] as const }];
  expect(found(again, { incidents })).toEqual([]);
});

it("takes any number of a message that Redis forgot for its place", () => {
  const incidents = [{ kind: "k", target: "all", from: 0, until: 9, effects: ["redis-lost"] as const }];
  const twice = ({ messages }: SessionHistory) => {
    messages[2]?.acceptances.unshift({ at: 0, messageId: "m3", seq: 0, duplicate: false });
    messages[0]?.acceptances.push({ at: 8, messageId: "m1", seq: 8, duplicate: false });
    return {};
  };
  expect(found(twice, { incidents })).toEqual([]);
});
