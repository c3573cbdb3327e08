import { type Commit, openBackend, type SessionRef, SessionStore } from "@longshore/session-store";
import {
  type Configuration,
  commitNoteSchema,
  connectRedis,
  DeadLetters,
  deadReplyId,
  type Environment,
  type MessageEnd,
  type RedisClient,
  SessionState,
  summarizeDeadMessage,
  summarizeDeadReply,
  tenantSessionsKey,
} from "@longshore/shared";
import { type CommandContext, openStatusLine } from "../command-context.ts";
import { eachBounded } from "../each-bounded.ts";
import { ProgressBar } from "../progress-bar.ts";
import { type Finding, failed, messageOf, ok } from "./check.ts";

const COMMAND_TIMEOUT_MS = 10_000;
const SESSIONS_PAGE = 1_000;
const COMMITS_PAGE = 50;
/** Sessions that are read at once. */
const CONCURRENCY = 8;
/** Messages of a mailbox that are looked at for retries of dead ones. */
const MAILBOX_READ = 1_000;

interface Counts {
  sessions: number;
  deadLetters: number;
  deadReplies: number;
}

interface Parts {
  readonly store: SessionStore;
  readonly redis: RedisClient;
  readonly state: SessionState;
  readonly letters: DeadLetters;
}

/** A dead message, and the commit that ended it. */
interface DeadEnd {
  readonly end: MessageEnd;
  readonly commit: Commit;
}

/**
 * Rebuilds what the lists of sessions and of dead letters can lose with Redis: sessions and dead messages from the object
 * store, dead replies from what Redis still knows of the sessions. It only adds: what is listed stays, what was retried or
 * dropped in the last 90 days stays off, and it may run beside the fleet, and again.
 */
export async function repairLists(
  context: CommandContext,
  environment: Environment,
  configuration: Configuration,
): Promise<Finding[]> {
  const { clock, signal } = context;
  await using stack = new AsyncDisposableStack();
  const backend = openBackend(environment.OBJECT_STORE_URL, {
    ...(environment.S3_ENDPOINT === undefined ? {} : { endpoint: environment.S3_ENDPOINT }),
    forcePathStyle: environment.S3_FORCE_PATH_STYLE,
    region: environment.AWS_REGION,
  });
  const store = stack.adopt(new SessionStore({ backend, clock, threads: 1 }), (opened) => opened.close());
  const redis = connectRedis(environment.REDIS_URL, {
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
    onError: () => undefined,
  });
  stack.defer(() => redis.disconnect());
  const { records, events } = configuration.dispatcher;
  const state = new SessionState(redis, {
    recordTtlMs: records.keep,
    eventsLength: events.length,
    eventsTtlMs: events.keep,
  });
  const parts = { store, redis, state, letters: new DeadLetters(redis) };

  const counts: Counts = { sessions: 0, deadLetters: 0, deadReplies: 0 };
  const problems: string[] = [];
  using bar = new ProgressBar(openStatusLine(context), "listing sessions");
  for (const tenant of Object.keys(configuration.tenants)) {
    for (let after: string | undefined; ; ) {
      const options = { limit: SESSIONS_PAGE, ...(after === undefined ? {} : { after }) };
      const sessionIds = await store.listSessions(tenant, options, signal);
      await eachBounded(sessionIds, CONCURRENCY, async (sessionId) => {
        signal.throwIfAborted();
        await repairSession(parts, { tenant, sessionId }, counts, signal).catch((error: unknown) => {
          problems.push(`${tenant}/${sessionId}: ${messageOf(error)}`);
        });
        bar.show(`${counts.sessions} sessions of ${tenant}`);
      });
      after = sessionIds.at(-1);
      if (sessionIds.length < SESSIONS_PAGE) break;
    }
  }
  const { sessions, deadLetters, deadReplies } = counts;
  const listed = `${sessions} sessions, ${deadLetters} dead letters and ${deadReplies} dead replies are listed`;
  const [first] = problems;
  if (first === undefined) return [ok("lists", listed)];
  return [
    ok("lists", listed),
    failed("lists", `${problems.length} sessions could not be read, such as ${first}`, "run it again"),
  ];
}

async function repairSession(
  parts: Parts,
  ref: SessionRef,
  counts: Counts,
  signal: AbortSignal,
): Promise<void> {
  const { store, redis, state, letters } = parts;
  const { tenant, sessionId } = ref;
  const newest = await store.readNewest(ref, signal);
  if (newest === undefined) return;
  // Redis may know of a later accept.
  await redis.zadd(tenantSessionsKey(tenant), "GT", Date.parse(newest.time), sessionId);
  counts.sessions += 1;

  for (const { end, commit } of await findDead(parts, ref, newest, signal)) {
    const summary = summarizeDeadMessage(end, commit.generation);
    if (await letters.list(tenant, end.message.id, summary, Date.parse(commit.time))) counts.deadLetters += 1;
  }
  for (const { reply, error, diedAt } of await state.readDeadReplies(sessionId)) {
    const id = deadReplyId(sessionId, reply.id);
    await letters.list(tenant, id, summarizeDeadReply(reply, error), diedAt);
    counts.deadReplies += 1;
  }
}

/** The dead messages of a session that were not tried again since. */
async function findDead(
  { store, state }: Parts,
  ref: SessionRef,
  newest: Commit,
  signal: AbortSignal,
): Promise<DeadEnd[]> {
  const dead: DeadEnd[] = [];
  /** By the first of its line, how often a message was retried. */
  const retries = new Map<string, number>();
  const note = ({ retryOf }: Pick<MessageEnd["message"], "retryOf">) => {
    if (retryOf === undefined) return;
    retries.set(retryOf.messageId, Math.max(retries.get(retryOf.messageId) ?? 0, retryOf.count));
  };
  for (const waiting of await state.readMailbox(ref.sessionId, MAILBOX_READ)) note(waiting);
  for (let before = newest.generation + 1; ; ) {
    const commits = await store.listCommits(ref, { before, limit: COMMITS_PAGE }, signal);
    for (const commit of commits) {
      for (const end of commitNoteSchema.safeParse(commit.note).data?.ends ?? []) {
        note(end.message);
        if (end.outcome === "dead" && end.message.operation === undefined) dead.push({ end, commit });
      }
    }
    const last = commits.at(-1);
    if (last === undefined || commits.length < COMMITS_PAGE) break;
    before = last.generation;
  }
  return dead.filter(({ end: { message } }) => {
    const { messageId, count } = message.retryOf ?? { messageId: message.id, count: 0 };
    return (retries.get(messageId) ?? 0) <= count;
  });
}
