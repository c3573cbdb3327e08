import { randomBytes } from "node:crypto";
import type { SessionRef, SessionStore } from "@longshore/session-store";
import {
  type ArtifactLinks,
  type Destination,
  type DueSchedule,
  ScheduleNotFoundError,
  type Schedules,
  TooManySchedulesError,
} from "@longshore/shared";
import { readNote } from "../commit-notes.ts";
import { FileRefusedError, NoLinkError, NoTurnError, ScheduleElsewhereError } from "../errors.ts";
import type { CollectedFiles } from "../outbox-files.ts";
import type { Answer, Question } from "../question.ts";
import type { HistoryEntry, SessionTools, SharedFile, ToolSchedule, ToolTiming } from "./session-tools.ts";

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
  send(text: string, files: readonly string[]): Promise<CollectedFiles>;
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
  /** The session that a message to there would be of. @throws as `routeMessage` */
  readonly sessionIdOf: (destination: Destination) => string;
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

  async sendMessage(text: string, files: readonly string[]): Promise<CollectedFiles> {
    return await this.#running.send(text, files);
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

  async schedule(prompt: string, timing: ToolTiming): Promise<ToolSchedule> {
    const { schedules, sessionIdOf } = this.#parts;
    const { tenant, ...to } = this.#running.conversation;
    // A fork is not what its conversation leads to: the prompt would be another session's.
    if (sessionIdOf({ tenant, ...to }) !== this.#ref.sessionId) throw new ScheduleElsewhereError();
    if ((await this.#ownSchedules()).length >= SCHEDULES_MAX) throw new TooManySchedulesError(SCHEDULES_MAX);
    const { schedule } = await schedules.put(tenant, {
      id: `agent-${randomBytes(8).toString("hex")}`,
      ...timing,
      madeBy: this.#ref.sessionId,
      message: { ...to, sender: { id: "schedule" }, kind: "task", text: prompt },
    });
    return viewOf(schedule);
  }

  async listSchedules(): Promise<ToolSchedule[]> {
    return (await this.#ownSchedules()).map(viewOf);
  }

  async cancelSchedule(id: string): Promise<void> {
    if (!(await this.#ownSchedules()).some((schedule) => schedule.id === id))
      throw new ScheduleNotFoundError();
    await this.#parts.schedules.remove(this.#ref.tenant, id);
  }

  async #ownSchedules(): Promise<DueSchedule[]> {
    const all = await this.#parts.schedules.list(this.#ref.tenant);
    return all.filter(({ madeBy }) => madeBy === this.#ref.sessionId);
  }

  async readHistory(limit: number): Promise<HistoryEntry[]> {
    const entries: HistoryEntry[] = [];
    let before: number | undefined;
    let characters = 0;
    for (let read = 0; read < GENERATIONS_MAX; read += PAGE) {
      const at = before === undefined ? {} : { before };
      const commits = await this.#parts.store.listCommits(this.#ref, { ...at, limit: PAGE }, this.#signal);
      for (const commit of commits) {
        const note = readNote(commit);
        const replies = (note?.replies ?? []).map(
          ({ text, artifacts }): HistoryEntry => ({
            at: commit.time,
            text: text.slice(0, ENTRY_TEXT_MAX),
            ...(artifacts.length === 0 ? {} : { files: artifacts.map(({ name }) => name) }),
          }),
        );
        const messages = (note?.ends ?? []).map(
          ({ message, outcome }): HistoryEntry => ({
            at: message.sentAt ?? message.acceptedAt,
            from: message.sender.name ?? message.sender.id,
            text: message.text.slice(0, ENTRY_TEXT_MAX),
            outcome,
            ...(message.attachments.length === 0
              ? {}
              : { files: message.attachments.map(({ name }) => name) }),
          }),
        );
        for (const entry of [...messages, ...replies].reverse()) {
          characters += entry.text.length;
          if (entries.length === limit || characters > HISTORY_TEXT_MAX) return entries.reverse();
          entries.push(entry);
        }
      }
      before = commits.at(-1)?.generation;
      if (commits.length < PAGE) break;
    }
    return entries.reverse();
  }
}

function viewOf({ id, timing, message, nextMs }: DueSchedule): ToolSchedule {
  return {
    id,
    prompt: message.text,
    ...("everyMs" in timing ? {} : timing),
    ...(nextMs === undefined ? {} : { nextAt: new Date(nextMs).toISOString() }),
  };
}
