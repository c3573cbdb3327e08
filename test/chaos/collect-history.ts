import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Commit,
  openBackend,
  type SessionRef,
  SessionStore,
  type WorkingCopy,
} from "@longshore/session-store";
import {
  commitNoteSchema,
  connectRedis,
  type MessageRecord,
  SessionState,
  volumeNoteSchema,
} from "@longshore/shared";
import { type ChaosFleet, LEASE_MS } from "./chaos-fleet.ts";
import type { History, RestoredGeneration, SessionHistory } from "./history.ts";
import { VOLUME } from "./planned-message.ts";
import type { Sender } from "./sender.ts";
import { TENANT } from "./ways-in.ts";

const PAGE = 100;
/** Sessions that are read side by side. */
const AT_ONCE = 4;

/** Reads what there is to know of a run: from the object store, Redis, the receiver, and the processes' logs. */
export async function collectHistory(
  fleet: ChaosFleet,
  outcome: Pick<History, "leftovers" | "unfinished">,
): Promise<History> {
  const { environment, redis } = fleet.fleet;
  await using cleanUp = new AsyncDisposableStack();
  const store = new SessionStore({
    backend: openBackend(environment.OBJECT_STORE_URL as string, {
      endpoint: environment.S3_ENDPOINT as string,
      forcePathStyle: true,
      region: environment.AWS_REGION as string,
    }),
  });
  cleanUp.defer(() => store.close());
  const connection = connectRedis(redis.url, { onError: () => undefined });
  cleanUp.defer(() => connection.disconnect());
  const state = new SessionState(connection, { recordTtlMs: 1, eventsLength: 1, eventsTtlMs: 1 });

  const sessions: SessionHistory[] = [];
  const senders = [...fleet.traffic.senders];
  const read = async () => {
    for (let sender = senders.shift(); sender !== undefined; sender = senders.shift())
      sessions.push(await collectSession(fleet, sender, store, state));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, read));
  const known = new Set(sessions.map(({ sessionId }) => sessionId));
  return {
    ...outcome,
    leaseMs: LEASE_MS,
    sessions,
    volumeCounter: await readVolume(store, sessions),
    incidents: fleet.incidents,
    lateCommits: fleet.lateCommits,
    processes: (await Promise.all(fleet.seats.map((seat) => seat.histories()))).flat(),
    strayCalls: fleet.receiver.calls.filter(({ sessionId }) => !known.has(sessionId)),
  };
}

async function collectSession(
  fleet: ChaosFleet,
  sender: Sender,
  store: SessionStore,
  state: SessionState,
): Promise<SessionHistory> {
  const { conversation, sessionId, messages, scheduled, hasVolume, refuses } = sender;
  const generations = await restoreAll(store, { tenant: TENANT, sessionId });
  const records = new Map<string, MessageRecord>();
  for (const { note } of generations) {
    for (const { message } of note.ends) {
      const record = await state.readMessage(message.id);
      if (record !== undefined) records.set(message.id, record);
    }
  }
  const { waiting, undelivered } = await state.inspect(sessionId);
  const calls = fleet.receiver.calls.filter((call) => call.sessionId === sessionId);
  return {
    ...{ conversation, sessionId, messages, scheduled, hasVolume, refuses, generations, calls, records },
    ...{ waiting, undelivered },
    mayBeCancelled: (id) => sender.mayBeCancelled(id),
  };
}

/** Restores every generation, one over the other as an activation does. */
async function restoreAll(store: SessionStore, ref: SessionRef): Promise<RestoredGeneration[]> {
  const directory = await mkdtemp(join(tmpdir(), "longshore-chaos-restore-"));
  let copy: WorkingCopy | undefined;
  try {
    const restored: RestoredGeneration[] = [];
    for (const commit of await listAll(store, ref)) {
      const note = commitNoteSchema.parse(commit.note);
      try {
        if (copy === undefined) copy = await store.hydrate(ref, commit, directory);
        else await copy.restore(commit);
        restored.push({ commit, note, counter: await readCounter(join(directory, "workspace")) });
      } catch (error) {
        // Nothing after it can be restored over it.
        copy?.close();
        copy = undefined;
        await rm(directory, { recursive: true });
        restored.push({ commit, note, counter: 0, error: String(error) });
        break;
      }
    }
    return restored;
  } finally {
    copy?.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function listAll(store: SessionStore, ref: SessionRef): Promise<Commit[]> {
  const commits: Commit[] = [];
  for (let before: number | undefined; ; ) {
    const page: Commit[] = await store.listCommits(ref, {
      limit: PAGE,
      ...(before === undefined ? {} : { before }),
    });
    commits.push(...page);
    if (page.length < PAGE) return commits.toReversed();
    before = page.at(-1)?.generation;
  }
}

/** As it was committed last, of turns that were committed, too. */
async function readVolume(store: SessionStore, sessions: readonly SessionHistory[]): Promise<number> {
  const ref = { tenant: TENANT, volume: VOLUME.name };
  const directory = await mkdtemp(join(tmpdir(), "longshore-chaos-volume-"));
  try {
    let newest = await store.readNewest(ref);
    if (newest?.partial) {
      const { sessionId, wholeGeneration } = volumeNoteSchema.parse(newest.note);
      const { generation } = newest;
      const stands = sessions
        .filter((session) => session.sessionId === sessionId)
        .some(({ generations }) =>
          generations.some(({ note }) => note.volumes?.[VOLUME.name] === generation),
        );
      if (!stands) newest = wholeGeneration === 0 ? undefined : await store.readCommit(ref, wholeGeneration);
    }
    if (newest === undefined) return 0;
    (await store.hydrate(ref, newest, directory)).close();
    return await readCounter(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function readCounter(directory: string): Promise<number> {
  const text = await readFile(join(directory, "counter"), "utf8").catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "0";
    throw error;
  });
  return Number(text);
}
