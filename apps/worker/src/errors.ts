import type { SkillRef } from "@longshore/session-store";
import { LongshoreError } from "@longshore/shared";

/** A message was to be sent while no turn runs. */
export class NoTurnError extends LongshoreError {
  constructor() {
    super("NO_TURN", "A message can be sent in a turn only, and none runs");
  }
}

/** There is no such destination where the turn's messages came by. */
export class UnknownDestinationError extends LongshoreError {
  constructor(name: string, names: readonly string[]) {
    const there = names.length === 0 ? "there is none" : `there are: ${names.join(", ")}`;
    super("UNKNOWN_DESTINATION", `There is no destination ${JSON.stringify(name.slice(0, 64))}; ${there}`);
  }
}

/** What was to be edited, or reacted to, was not said in this session lately. */
export class UnknownMessageError extends LongshoreError {
  constructor() {
    super("UNKNOWN_MESSAGE", "Nothing with this id was said in this session lately");
  }
}

/** An agent sends, or shares, more in one turn than it may. */
export class TooManyMessagesError extends LongshoreError {
  constructor(limit: number) {
    super("TOO_MANY_MESSAGES", `A turn may send ${limit} messages and share as many files`);
  }
}

/** An agent asks more in one turn than it may. */
export class TooManyQuestionsError extends LongshoreError {
  constructor(limit: number) {
    super("TOO_MANY_QUESTIONS", `A turn may ask ${limit} questions`);
  }
}

/** A file can't be shared. */
export class FileRefusedError extends LongshoreError {
  constructor(reason: string) {
    super("FILE_REFUSED", `The file can't be shared: ${reason}`);
  }
}

/** The object store makes no links, and nobody said where the dispatchers are reached. */
export class NoLinkError extends LongshoreError {
  constructor() {
    super("NO_LINK", "This fleet has no address for links to files (LONGSHORE_PUBLIC_URL)");
  }
}

/** A prompt to the session's conversation would go to another session: this one was forked, or routes changed. */
export class ScheduleElsewhereError extends LongshoreError {
  constructor() {
    super(
      "SCHEDULE_ELSEWHERE",
      "The conversation leads to another session by now: nothing can be scheduled here",
    );
  }
}

/** The agent's process ended, or closed its output, in the middle of a turn. */
export class AgentExitedError extends LongshoreError {
  readonly exitCode: number | null;
  constructor(exitCode: number | null, signal: string | null, stderr: string) {
    const how = signal ? `was ended by ${signal}` : `exited with ${exitCode ?? "an unknown status"}`;
    super("AGENT_EXITED", withStderr(`The agent ${how} before it answered`, stderr));
    this.exitCode = exitCode;
  }
}

/** The sandbox used more memory than its limit, and the kernel ended the agent. */
export class AgentOutOfMemoryError extends LongshoreError {
  constructor(limitBytes: number, stderr: string) {
    super(
      "AGENT_OUT_OF_MEMORY",
      withStderr(`The agent needed more than ${limitBytes} bytes of memory`, stderr),
    );
  }
}

/**
 * The agent answered a request with an error, or with something that is no ACP. The cause is not kept: it is
 * the agent's words, as long as the agent likes, and would be logged whole.
 */
export class AgentRefusedError extends LongshoreError {
  constructor(method: string, cause: unknown, stderr: string) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super("AGENT_ERROR", withStderr(`The agent failed ${method}: ${reason.slice(0, REASON_SHOWN)}`, stderr));
  }
}

/** What an agent of the contract `mailbox-db` made of its databases can't be read or written: it counts as its failure. */
export class MailboxDatabaseError extends LongshoreError {
  constructor(reason: string) {
    super("MAILBOX_DATABASE", reason);
  }
}

/** The files that new sessions are to have in their home can't be read. */
export class HomeUnreadableError extends LongshoreError {
  constructor(path: string, reason: string, cause?: unknown) {
    super("HOME_UNREADABLE", `The agent's home files can't be taken from ${path}: ${reason}`, {
      retryable: true,
      cause,
    });
  }
}

/**
 * A directory of the host is not to be seen by an agent. The code is `MOUNT_MISSING`, `MOUNT_FORBIDDEN` (nobody may have
 * it), `MOUNT_NOT_ALLOWED` (the operator's `mounts` do not name it for this tenant) or `MOUNT_MODE_NOT_ALLOWED`; for one of
 * a message also `MOUNT_NOT_BY_MESSAGE` or `MOUNT_TARGET_TAKEN`.
 */
export class MountDeniedError extends LongshoreError {
  constructor(code: `MOUNT_${string}`, name: string, reason: string) {
    super(code, `The mount ${name} can't be made: ${reason}`, { retryable: true });
  }
}

/** A mount that a message asks for is denied: its turn can't be as it wants it. The code is the denial's. */
export class MessageMountDeniedError extends LongshoreError {
  constructor(denial: MountDeniedError) {
    super(denial.code, denial.message, { retryable: false, cause: denial });
  }
}

/** A skill can't be shown: there is no such version in the store (`SKILL_MISSING`), or it is none (`SKILL_REFUSED`). */
export class SkillError extends LongshoreError {
  constructor(code: `SKILL_${string}`, skill: SkillRef, reason: string) {
    super(code, `The skill ${skill.id}, version ${skill.version}, ${reason}`, { retryable: true });
  }
}

/** A commit's note is not to be understood: a newer Longshore wrote it. Nothing may be built on it. */
export class CommitNoteUnreadableError extends LongshoreError {
  constructor(generation: number) {
    super(
      "COMMIT_NOTE_UNREADABLE",
      `The note of generation ${generation} is of another version of Longshore`,
      {
        retryable: true,
      },
    );
  }
}

/** A turn took longer than its limit, or went on without a sign of life for longer than its idle limit. */
export class TurnTimeoutError extends LongshoreError {
  readonly limitMs: number;
  constructor(kind: "turn" | "idle" | "start", limitMs: number, stderr: string) {
    const what = {
      turn: "The turn took longer than",
      idle: "The agent gave no sign of life for",
      start: "The agent was not ready within",
    }[kind];
    super(`${kind.toUpperCase()}_TIMEOUT`, withStderr(`${what} ${limitMs} ms`, stderr));
    this.limitMs = limitMs;
  }
}

/** The message killed each worker that it was alone on, as often as a message may fail. */
export class WorkerKilledError extends LongshoreError {
  constructor(attempts: number) {
    super("WORKER_KILLED", `The workers that were at work on it alone died, ${attempts} failures in all`);
  }
}

/** The worker stops: what runs is handed back to the queue. No fault of any message. */
export class HandedBackError extends LongshoreError {
  constructor() {
    super("HANDED_BACK", "The worker is stopping; the session goes to another one", { retryable: true });
  }
}

/** What the turn did is dropped: its messages run again, together with those that came behind them. */
export class RolledBackError extends LongshoreError {
  constructor() {
    super("ROLLED_BACK", "A new message came, and the turn begins anew with it", { retryable: true });
  }
}

/** A generation by an activation with a lower epoch stands where this one wanted to commit: it is adopted. */
export class OvertakenError extends LongshoreError {
  readonly generation: number;
  constructor(generation: number) {
    super("OVERTAKEN", `Generation ${generation} was committed by an earlier activation`, {
      retryable: true,
    });
    this.generation = generation;
  }
}

/** The configuration does not define the session's agent any more. */
export class AgentGoneError extends LongshoreError {
  constructor(agent: string) {
    super("UNKNOWN_AGENT", `Agent "${agent}" is not configured any more`);
  }
}

/** The content of a file that was uploaded is not in the object store any more, or is another. */
export class UploadContentError extends LongshoreError {
  readonly path: string;
  constructor(path: string, cause: LongshoreError) {
    super("UPLOAD_CONTENT_LOST", `The uploaded content of ${JSON.stringify(path)}: ${cause.message}`, {
      cause,
    });
    this.path = path;
  }
}

/** The files of the generation that a session was to be rolled back to are lost or damaged. */
export class GenerationUnreadableError extends LongshoreError {
  readonly generation: number;
  constructor(generation: number, cause: LongshoreError) {
    super("GENERATION_UNREADABLE", `The files of generation ${generation} can't be read: ${cause.message}`, {
      cause,
    });
    this.generation = generation;
  }
}

/** A file was to be put where the agent's definition leaves files out of the session. */
export class PathExcludedError extends LongshoreError {
  readonly path: string;
  constructor(path: string) {
    super("PATH_EXCLUDED", `${JSON.stringify(path)} is left out of this agent's sessions`);
    this.path = path;
  }
}

/** A message waited for its user's quota for as long as its agent's `perUser.wait`. */
export class UserQuotaExceededError extends LongshoreError {
  readonly quota: "running" | "perDay";
  readonly limit: number;
  constructor(quota: "running" | "perDay", limit: number) {
    const what = quota === "running" ? `${limit} turns at once` : `${limit} messages a day`;
    super("USER_QUOTA_EXCEEDED", `The message's user may have ${what}, and it has waited for too long`);
    this.quota = quota;
    this.limit = limit;
  }
}

/** Characters of what an agent said that an error repeats. */
const REASON_SHOWN = 1_000;
const STDERR_SHOWN = 2_000;

function withStderr(text: string, stderr: string): string {
  const shown = stderr.trimEnd().slice(-STDERR_SHOWN);
  return shown ? `${text}. Its last output on stderr:\n${shown}` : text;
}
