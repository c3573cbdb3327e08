import type { Readable, Writable } from "node:stream";
import type { ConversationPlace } from "@longshore/shared";
import { z } from "zod";
import { MailboxDatabaseError } from "../errors.ts";
import type { InboundRow } from "./inbound-rows.ts";

/**
 * The longest answer of the databases' end in the sandbox, in bytes: eight rows of the longest content, escaped, fit in.
 */
const ANSWER_BYTES_MAX = 32 * 1024 ** 2;
/** Rows that are read at once, and the longest content that is read of one, in characters. */
const ROWS_MAX = 8;
const CONTENT_MAX = 1024 ** 2;

/** What the agent says in a row of `messages_out`. All of it is the agent's word. */
const outboundRowSchema = z.object({
  id: z.string().max(1_024),
  seq: z.int(),
  inReplyTo: z.string().nullable(),
  kind: z.string(),
  platformId: z.string().nullable(),
  channelType: z.string().nullable(),
  deliverAfter: z.string().nullable(),
  recurrence: z.string().nullable(),
  /** Null where it is longer than is read. */
  content: z.string().nullable(),
});
export type OutboundRow = z.output<typeof outboundRowSchema>;

const outboundSchema = z.object({
  rows: z.array(outboundRowSchema),
  /** By the id of the message: `processing`, `completed`, `failed`, `script-skip:error`. */
  acks: z.record(z.string(), z.string()),
  /** Changes whenever the agent says that it is at something else. */
  tool: z.object({ startedAt: z.string().nullable(), timeoutMs: z.number().nullable() }).nullable(),
});
export type Outbound = z.output<typeof outboundSchema>;

/** What became of a row of `messages_out`. */
export interface HandledRow {
  readonly id: string;
  /** `delivered`: it goes into the commit, and so it will be. */
  readonly status: "delivered" | "failed";
  /** By which the agent can change the message. */
  readonly platformId?: string | undefined;
}

/** A task that is scheduled, as the agent sees it. */
export interface TaskRow {
  readonly id: string;
  readonly status: "pending" | "paused";
  /** ISO 8601. */
  readonly processAfter: string | undefined;
  readonly recurrence: string | undefined;
  readonly prompt: string;
}

/**
 * The two databases of the contract `mailbox-db`, `inbound.db` (the worker writes) and `outbound.db` (the agent writes).
 * `longshore-mailbox` in the sandbox does what is asked here: each time it opens a database, does one transaction and closes
 * it. Requests are served one after another; they fail with the sandbox, whose end is to be watched beside.
 *
 * Every method throws `MailboxDatabaseError` where SQLite says no, or the answer makes no sense.
 */
export class MailboxDatabases {
  readonly #stdin: Writable;
  readonly #answers: AsyncGenerator<string>;

  constructor(sandbox: { readonly stdin: Writable; readonly stdout: Readable }) {
    this.#stdin = sandbox.stdin;
    // It fails with the sandbox, which tells the reason.
    this.#stdin.on("error", () => undefined);
    this.#answers = readLines(sandbox.stdout);
  }

  /**
   * Makes the databases where there are none, and says who is there to talk to.
   *
   * @returns the largest sequence number in `outbound.db`
   */
  async prepare(
    routes: readonly ConversationPlace[],
    destinations: Readonly<Record<string, ConversationPlace>>,
  ): Promise<number> {
    await this.#ask("inbound", PREPARE_INBOUND, {
      destinations: [
        ...Object.entries(destinations).map(([name, place]) => ({ name, ...place })),
        ...routes.map((route) => ({ name: destinationName(route), ...route })),
      ],
      routing: routes.at(-1),
    });
    const top = z.int().safeParse(Number(await this.#ask("outbound", PREPARE_OUTBOUND, {})));
    if (!top.success) throw new MailboxDatabaseError("outbound.db: a sequence number is no whole number");
    return top.data;
  }

  /** Starts the agent's program. */
  async start(): Promise<void> {
    await this.#request("start");
  }

  /**
   * Puts messages behind all there are, with the even sequence numbers of the contract.
   *
   * @param above the largest sequence number in `outbound.db`
   */
  async insert(rows: readonly InboundRow[], above: number): Promise<void> {
    await this.#ask("inbound", INSERT, { above, rows });
  }

  /** Says which tasks are scheduled; none of these rows is ever the agent's to do. @param above as `insert` */
  async showTasks(tasks: readonly TaskRow[], above: number, time: Date): Promise<void> {
    await this.#ask("inbound", SHOW_TASKS, { above, time: time.toISOString(), tasks });
  }

  /** The rows after one, the oldest `ROWS_MAX` of them, and how far the agent is with messages. */
  async read(afterSeq: number, messageIds: readonly string[]): Promise<Outbound> {
    const answer = await this.#ask("outbound", READ, { after: afterSeq, ids: messageIds });
    const parsed = outboundSchema.safeParse(parseJson(answer));
    if (!parsed.success) throw new MailboxDatabaseError(`outbound.db: ${z.prettifyError(parsed.error)}`);
    return parsed.data;
  }

  /** Notes what became of the agent's rows, and that messages need no work any more. */
  async settle(handled: readonly HandledRow[], messageIds: readonly string[], time: Date): Promise<void> {
    await this.#ask("inbound", SETTLE, { handled, ids: messageIds, time: time.toISOString() });
  }

  async #ask(database: "inbound" | "outbound", sql: string, parameter: unknown): Promise<string> {
    return await this.#request(`${database}\t${sql}\t${JSON.stringify(parameter)}`);
  }

  async #request(line: string): Promise<string> {
    this.#stdin.write(`${line}\n`);
    const { value, done } = await this.#answers.next();
    // The sandbox has ended: that is told elsewhere, with the reason.
    if (done === true) return await new Promise(() => undefined);
    const at = value.indexOf("\t");
    const text = value.slice(at + 1);
    if (value.slice(0, at) !== "ok") throw new MailboxDatabaseError(text.slice(0, 1_000));
    return text;
  }
}

/** What the agent calls a conversation that it writes to. */
function destinationName({ channel, conversation }: ConversationPlace): string {
  return `${channel}/${conversation}`;
}

/** Undefined for what is no JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Ends with the stream, however that ends. @throws MailboxDatabaseError for one that is too long */
async function* readLines(stdout: Readable): AsyncGenerator<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of untilItEnds(stdout)) {
    let from = 0;
    for (let at = part.indexOf(10); at >= 0; at = part.indexOf(10, from)) {
      parts.push(part.subarray(from, at));
      yield Buffer.concat(parts).toString("utf8");
      parts.length = 0;
      bytes = 0;
      from = at + 1;
    }
    parts.push(part.subarray(from));
    bytes += part.length - from;
    if (bytes > ANSWER_BYTES_MAX)
      throw new MailboxDatabaseError(`an answer of more than ${ANSWER_BYTES_MAX} bytes`);
  }
}

/** Where the engine went away, that is what to tell, and not that the stream broke. */
async function* untilItEnds(stdout: Readable): AsyncGenerator<Buffer> {
  try {
    yield* stdout as AsyncIterable<Buffer>;
  } catch {
    return;
  }
}

/** A request is a line. */
function oneLine(sql: string): string {
  return sql.replaceAll(/\s+/g, " ").trim();
}

// The schemas are the contract's, as NanoClaw v2 has published it; `?1` is a JSON text.

const PREPARE_INBOUND = oneLine(`
  PRAGMA journal_mode = DELETE;
  BEGIN IMMEDIATE;
  CREATE TABLE IF NOT EXISTS messages_in (
    id TEXT PRIMARY KEY, seq INTEGER UNIQUE, kind TEXT NOT NULL, timestamp TEXT NOT NULL,
    status TEXT DEFAULT 'pending', process_after TEXT, recurrence TEXT, series_id TEXT, tries INTEGER DEFAULT 0,
    trigger INTEGER NOT NULL DEFAULT 1, platform_id TEXT, channel_type TEXT, thread_id TEXT, content TEXT NOT NULL,
    source_session_id TEXT, on_wake INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE IF NOT EXISTS delivered (
    message_out_id TEXT PRIMARY KEY, platform_message_id TEXT, status TEXT NOT NULL DEFAULT 'delivered',
    delivered_at TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS destinations (
    name TEXT PRIMARY KEY, display_name TEXT, type TEXT NOT NULL, channel_type TEXT, platform_id TEXT,
    agent_group_id TEXT);
  CREATE TABLE IF NOT EXISTS session_routing (
    id INTEGER PRIMARY KEY CHECK (id = 1), channel_type TEXT, platform_id TEXT, thread_id TEXT);
  DELETE FROM destinations;
  INSERT OR REPLACE INTO destinations (name, display_name, type, channel_type, platform_id)
    SELECT value->>'name', value->>'name', 'channel', value->>'channel', value->>'conversation'
    FROM json_each(?1, '$.destinations');
  INSERT OR REPLACE INTO session_routing (id, channel_type, platform_id, thread_id)
    VALUES (1, ?1->>'$.routing.channel', ?1->>'$.routing.conversation', ?1->>'$.routing.thread');
  COMMIT;
`);

const PREPARE_OUTBOUND = oneLine(`
  PRAGMA journal_mode = DELETE;
  BEGIN IMMEDIATE;
  CREATE TABLE IF NOT EXISTS messages_out (
    id TEXT PRIMARY KEY, seq INTEGER UNIQUE, in_reply_to TEXT, timestamp TEXT NOT NULL, deliver_after TEXT,
    recurrence TEXT, kind TEXT NOT NULL, platform_id TEXT, channel_type TEXT, thread_id TEXT, content TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS processing_ack (
    message_id TEXT PRIMARY KEY, status TEXT NOT NULL, status_changed TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS session_state (key TEXT PRIMARY KEY, value TEXT NOT NULL, updated_at TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS container_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), current_tool TEXT, tool_declared_timeout_ms INTEGER, tool_started_at TEXT,
    updated_at TEXT NOT NULL);
  COMMIT;
  SELECT coalesce(max(seq), 0) FROM messages_out;
`);

const INSERT = oneLine(`
  BEGIN IMMEDIATE;
  WITH top AS (
    SELECT max(coalesce((SELECT max(seq) FROM messages_in), 0), ?1->>'$.above') / 2 * 2 + 2 AS seq)
  INSERT OR REPLACE INTO messages_in
    (id, seq, kind, timestamp, trigger, series_id, platform_id, channel_type, thread_id, content)
    SELECT value->>'id', top.seq + 2 * key, value->>'kind', value->>'timestamp', value->>'trigger', value->>'seriesId',
      value->>'conversation', value->>'channel', value->>'thread', value->>'content'
    FROM json_each(?1, '$.rows'), top;
  COMMIT;
`);

// A task that came due while the agent runs would be done by it, and by the turn that the fleet makes of it. SQLite does not
// read the time with this offset, so it is never due; as ISO 8601 it is what it was.
const SHOW_TASKS = oneLine(`
  BEGIN IMMEDIATE;
  DELETE FROM messages_in WHERE kind = 'task' AND id = series_id;
  WITH top AS (
    SELECT max(coalesce((SELECT max(seq) FROM messages_in), 0), ?1->>'$.above') / 2 * 2 + 2 AS seq)
  INSERT OR REPLACE INTO messages_in
    (id, seq, kind, timestamp, status, trigger, process_after, recurrence, series_id, content)
    SELECT value->>'id', top.seq + 2 * key, 'task', ?1->>'$.time', value->>'status', 0,
      replace(coalesce(value->>'processAfter', '9999-12-31T00:00:00Z'), 'Z', '+0000'),
      value->>'recurrence', value->>'id', json_object('prompt', value->>'prompt', 'script', NULL)
    FROM json_each(?1, '$.tasks'), top;
  COMMIT;
`);

const READ = oneLine(`
  SELECT json_object(
    'rows', json((SELECT coalesce(json_group_array(json_object(
        'id', id, 'seq', seq, 'inReplyTo', in_reply_to, 'kind', kind, 'platformId', platform_id,
        'channelType', channel_type, 'deliverAfter', deliver_after, 'recurrence', recurrence, 'content', iif(length(content) > ${CONTENT_MAX}, NULL, content))), '[]')
      FROM (SELECT * FROM messages_out WHERE seq > ?1->>'$.after' ORDER BY seq LIMIT ${ROWS_MAX}))),
    'acks', json((SELECT coalesce(json_group_object(message_id, status), '{}') FROM processing_ack
      WHERE message_id IN (SELECT value FROM json_each(?1, '$.ids')))),
    'tool', json((SELECT json_object('startedAt', tool_started_at, 'timeoutMs', tool_declared_timeout_ms)
      FROM container_state WHERE id = 1 AND current_tool IS NOT NULL)));
`);

const SETTLE = oneLine(`
  BEGIN IMMEDIATE;
  INSERT OR REPLACE INTO delivered (message_out_id, platform_message_id, status, delivered_at)
    SELECT value->>'id', value->>'platformId', value->>'status', ?1->>'$.time' FROM json_each(?1, '$.handled');
  UPDATE messages_in SET status = 'completed' WHERE id IN (SELECT value FROM json_each(?1, '$.ids'));
  COMMIT;
`);
