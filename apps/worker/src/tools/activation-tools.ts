import { randomBytes } from "node:crypto";
import type { Commit, SessionRef, SessionStore } from "@longshore/session-store";
import {
  type ArtifactLinks,
  type ConversationPlace,
  type Destination,
  type DueSchedule,
  deriveReplyId,
  hashId,
  type Routed,
  ScheduleNotFoundError,
  type Schedules,
  TooManySchedulesError,
} from "@longshore/shared";
import { readNote } from "../commit-notes.ts";
import {
  FileRefusedError,
  NoLinkError,
  NoTurnError,
  ScheduleElsewhereError,
  UnknownDestinationError,
  UnknownMessageError,
} from "../errors.ts";
import type { CollectedFiles } from "../outbox-files.ts";
import type { OutgoingMessage, SentMessage } from "../outgoing.ts";
import type { Answer, Question } from "../question.ts";
import {
  answerAlias,
  type HistoryEntry,
  SCHEDULE_NAME,
  type SessionTools,
  type SharedFile,
  type ToolSchedule,
  type ToolScheduleChange,
  type ToolTiming,
} from "./session-tools.ts";

/** Generations that are read for the history at most: each costs a request. */
const GENERATIONS_MAX = 200;
const PAGE = 20;
/** Characters of one entry, and of all together, that are told. */
const ENTRY_TEXT_MAX = 8_000;
const HISTORY_TEXT_MAX = 100_000;

/** Schedules that one session's agent may have. */
const SCHEDULES_MAX = 20;
/** How long a link to a file works, in seconds. */
const LINK_SECONDS = 7 * 24 * 3_600;

/** The turn that a tool is called in. */
export interface CallingTurn {
  /** Whom it answers. */
  readonly conversation: Destination;
  readonly lastMessageId: string;
  send(message: OutgoingMessage): Promise<SentMessage>;
  share(path: string): Promise<CollectedFiles>;
  ask(question: Question): Promise<Answer | undefined>;
}

/** What the tools need of their worker. */
export interface ToolParts {
  readonly store: SessionStore;
  readonly schedules: Schedules;
  readonly links: ArtifactLinks;
  /** The dispatchers' address as others reach it. */
  readonly publicUrl: string | undefined;
  /** What a message to there would be of, and where its agent may write to besides. @throws as `routeMessage` */
  readonly route: (destination: Destination) => Pick<Routed, "sessionId" | "destinations" | "operator">;
}

/** The tools of an activation's session. */
export class ActivationTools implements SessionTools {
  /** The one that runs. */
  turn: CallingTurn | undefined;
  readonly #parts: ToolParts;
  readonly #ref: SessionRef;
  readonly #signal: AbortSignal;

  constructor(parts: ToolParts, ref: SessionRef, signal: AbortSignal) {
    this.#parts = parts;
    this.#ref = ref;
    this.#signal = signal;
  }

  get #running(): CallingTurn {
    if (this.turn === undefined) throw new NoTurnError();
    return this.turn;
  }

  async sendMessage({
    text,
    files,
    to: name,
  }: {
    readonly text: string;
    readonly files: readonly string[];
    readonly to?: string | undefined;
  }): Promise<SentMessage> {
    const turn = this.#running;
    if (name === undefined) return await turn.send({ text, files });
    const { destinations } = this.#parts.route(turn.conversation);
    const to = Object.hasOwn(destinations, name) ? destinations[name] : undefined;
    if (to === undefined) throw new UnknownDestinationError(name, Object.keys(destinations));
    return await turn.send({ text, files, to });
  }

  async editMessage(messageId: string, text: string): Promise<void> {
    const turn = this.#running;
    for await (const commit of this.#commits()) {
      const reply = replyOf(commit, messageId, this.#ref.sessionId);
      if (reply === undefined) continue;
      await turn.send({ text, to: reply.place, change: { kind: "edit", of: reply.id } });
      return;
    }
    throw new UnknownMessageError();
  }

  async react(emoji: string, messageId: string | undefined): Promise<void> {
    const turn = this.#running;
    const id = messageId ?? turn.lastMessageId;
    const own = { id, place: turn.conversation };
    const found = id === turn.lastMessageId ? own : await this.#find(id);
    if (found === undefined) throw new UnknownMessageError();
    const { channel, conversation, thread } = found.place;
    const to = { channel, conversation, thread };
    await turn.send({ text: emoji, to, change: { kind: "reaction", of: found.id } });
  }

  /** A message or reply of this session, if it is one of the last. */
  async #find(id: string): Promise<Found | undefined> {
    for await (const commit of this.#commits()) {
      const ended = readNote(commit)?.ends.find(({ message }) => message.id === id);
      if (ended !== undefined) return { id, place: ended.message };
      const reply = replyOf(commit, id, this.#ref.sessionId);
      if (reply !== undefined) return reply;
    }
    return undefined;
  }

  /** The newest ones, newest first. */
  async *#commits(): AsyncGenerator<Commit> {
    let before: number | undefined;
    for (let read = 0; read < GENERATIONS_MAX; read += PAGE) {
      const at = before === undefined ? {} : { before };
      const commits = await this.#parts.store.listCommits(this.#ref, { ...at, limit: PAGE }, this.#signal);
      yield* commits;
      before = commits.at(-1)?.generation;
      if (commits.length < PAGE) return;
    }
  }

  async askUser(question: Question): Promise<Answer | undefined> {
    return await this.#running.ask(question);
  }

  async shareFile(path: string): Promise<SharedFile> {
    const { store, links, publicUrl } = this.#parts;
    const { artifacts, refused } = await this.#running.share(path);
    const [artifact] = artifacts;
    if (artifact === undefined) throw new FileRefusedError(refused[0]?.reason ?? "it is no file");
    const { id, name, contentType } = artifact;
    if (publicUrl !== undefined) {
      const { token, expiresAt } = await links.sign({ ...this.#ref, id, name, contentType }, LINK_SECONDS);
      return { url: `${publicUrl}/artifacts/${token}`, expiresAt: expiresAt.toISOString() };
    }
    const expires = { contentType, expiresSeconds: LINK_SECONDS };
    const url = await store.presignArtifact(this.#ref, id, name, expires);
    if (url === undefined) throw new NoLinkError();
    return { url, expiresAt: new Date(Date.now() + LINK_SECONDS * 1_000).toISOString() };
  }

  async schedule(prompt: string, timing: ToolTiming, name?: string): Promise<ToolSchedule> {
    const { schedules, route } = this.#parts;
    const { tenant, ...to } = this.#running.conversation;
    // A fork is not what its conversation leads to: the prompt would be another session's.
    if (route({ tenant, ...to }).sessionId !== this.#ref.sessionId) throw new ScheduleElsewhereError();
    if ((await this.#ownSchedules()).length >= SCHEDULES_MAX) throw new TooManySchedulesError(SCHEDULES_MAX);
    const metadata = name === undefined ? {} : { metadata: { [SCHEDULE_NAME]: name } };
    const { schedule } = await schedules.put(tenant, {
      id: name === undefined ? `agent-${randomBytes(8).toString("hex")}` : this.#idOfName(name),
      ...timing,
      madeBy: this.#ref.sessionId,
      message: { ...to, sender: { id: "schedule" }, kind: "task", text: prompt, ...metadata },
    });
    return this.#viewOf(schedule);
  }

  async listSchedules(): Promise<ToolSchedule[]> {
    return (await this.#visibleSchedules()).map((schedule) => this.#viewOf(schedule));
  }

  async updateSchedule(id: string, { prompt, timing, paused }: ToolScheduleChange): Promise<void> {
    const { nextMs: _, timing: before, ...schedule } = await this.#visibleSchedule(id);
    const every = "everyMs" in before ? { every: `${before.everyMs}ms` } : before;
    await this.#parts.schedules.put(this.#ref.tenant, {
      ...schedule,
      ...(timing ?? every),
      paused: paused ?? schedule.paused,
      message: { ...schedule.message, ...(prompt === undefined ? {} : { text: prompt }) },
    });
  }

  async cancelSchedule(id: string): Promise<void> {
    await this.#parts.schedules.remove(this.#ref.tenant, (await this.#visibleSchedule(id)).id);
  }

  async #visibleSchedule(idOrName: string): Promise<DueSchedule> {
    const ids = [idOrName, this.#idOfName(idOrName)];
    const found = (await this.#visibleSchedules()).find(({ id }) => ids.includes(id));
    if (found === undefined) throw new ScheduleNotFoundError();
    return found;
  }

  /** Another session's of the same name is another one. */
  #idOfName(name: string): string {
    return `agent-${hashId("schedule", this.#ref.sessionId, name)}`;
  }

  /** An operator's agent sees its tenant's. */
  async #visibleSchedules(): Promise<DueSchedule[]> {
    const { schedules, route } = this.#parts;
    const isOperator = this.turn !== undefined && route(this.turn.conversation).operator;
    return isOperator ? await schedules.list(this.#ref.tenant) : await this.#ownSchedules();
  }

  async #ownSchedules(): Promise<DueSchedule[]> {
    const { tenant, sessionId } = this.#ref;
    return await this.#parts.schedules.list(tenant, ({ madeBy }) => madeBy === sessionId);
  }

  #viewOf({ id, timing, message, nextMs, madeBy, paused }: DueSchedule): ToolSchedule {
    const name = madeBy === this.#ref.sessionId ? message.metadata?.[SCHEDULE_NAME] : undefined;
    return {
      id,
      ...(name === undefined ? {} : { name: String(name) }),
      prompt: message.text,
      conversation: `${message.channel}/${message.conversation}`,
      ...("everyMs" in timing ? {} : timing),
      ...(nextMs === undefined ? {} : { nextAt: new Date(nextMs).toISOString() }),
      ...(paused ? { paused } : {}),
    };
  }

  async readHistory(limit: number): Promise<HistoryEntry[]> {
    const entries: HistoryEntry[] = [];
    let characters = 0;
    for await (const commit of this.#commits()) {
      const note = readNote(commit);
      const replies = (note?.replies ?? []).map(
        ({ index, text, artifacts }): HistoryEntry => ({
          id: deriveReplyId(this.#ref.sessionId, commit.id, index),
          at: commit.time,
          text: text.slice(0, ENTRY_TEXT_MAX),
          ...(artifacts.length === 0 ? {} : { files: artifacts.map(({ name }) => name) }),
        }),
      );
      const messages = (note?.ends ?? []).map(
        ({ message, outcome }): HistoryEntry => ({
          id: message.id,
          at: message.sentAt ?? message.acceptedAt,
          from: message.sender.name ?? message.sender.id,
          text: message.text.slice(0, ENTRY_TEXT_MAX),
          outcome,
          ...(message.attachments.length === 0 ? {} : { files: message.attachments.map(({ name }) => name) }),
        }),
      );
      for (const entry of [...messages, ...replies].reverse()) {
        characters += entry.text.length;
        if (entries.length === limit || characters > HISTORY_TEXT_MAX) return entries.reverse();
        entries.push(entry);
      }
    }
    return entries.reverse();
  }
}

/** A message or reply, and where it is. */
interface Found {
  readonly id: string;
  readonly place: ConversationPlace;
}

/** The reply of a commit with that id, or alias; one that can be edited, and is no edit itself. */
function replyOf(commit: Commit, wanted: string, sessionId: string): Found | undefined {
  const { replies = [], turnId = "", ends = [] } = readNote(commit) ?? {};
  const isAlias = ends.length > 0 && wanted === answerAlias(turnId);
  for (const reply of replies) {
    const id = deriveReplyId(sessionId, commit.id, reply.index);
    if (reply.kind === "answer" && (isAlias || id === wanted)) return { id, place: reply };
  }
  return undefined;
}
