import { SESSION_DIRECTORIES } from "@longshore/sandbox";
import {
  type Commit,
  CorruptObjectError,
  compilePatterns,
  type FileChange,
  type FileChanges,
  GenerationNotFoundError,
  ObjectNotFoundError,
  type PathPredicate,
  pathOf,
  type SessionRef,
  type SessionStore,
  type WorkingCopy,
} from "@longshore/session-store";
import {
  type AcceptedMessage,
  type AgentDefinition,
  endMessage,
  type Logger,
  type OperationPath,
  operationPathBytes,
  type RollbackOperation,
  showPath,
  summarizeOperation,
  UnsafePathError,
  type UploadOperation,
} from "@longshore/shared";
import type { CommitPoint } from "./commit-point.ts";
import { GenerationUnreadableError, PathExcludedError, UploadContentError } from "./errors.ts";
import { foreignTargets, NO_GRANTS } from "./grants.ts";
import { mountPatterns } from "./mounts.ts";

/** Where an operation is applied: to a live session, or to one of which no directory is there. */
export type OperationPlace = { readonly copy: WorkingCopy } | { readonly base: Commit | undefined };

export interface OperationsOptions {
  readonly store: SessionStore;
  readonly ref: SessionRef;
  readonly commits: CommitPoint;
  readonly agentName: string;
  readonly definition: AgentDefinition;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/**
 * Applies the operations of a session: messages that change its files and are no word to its agent. Each is one
 * commit, which ends its message as answered; killed before it, the operation is applied by the next activation, and
 * after it, it is done.
 *
 * An upload into a live session is written into its directory too, where nobody may be at work. A rollback is for a
 * session without a sandbox only: an agent that ran on would remember another past.
 */
export class Operations {
  readonly #options: OperationsOptions;
  readonly #isExcluded: PathPredicate;

  constructor(options: OperationsOptions) {
    this.#options = options;
    const { definition } = options;
    const foreign = mountPatterns(foreignTargets(definition, NO_GRANTS));
    this.#isExcluded = compilePatterns([...definition.exclude, ...foreign]) ?? (() => false);
  }

  /**
   * @throws UnsafePathError, PathExcludedError, QuotaExceededError, UploadContentError, GenerationNotFoundError,
   *   GenerationUnreadableError: it can't be, now or later. All that a commit throws
   */
  async upload(at: OperationPlace, message: AcceptedMessage, operation: UploadOperation): Promise<Commit> {
    const { commits, agentName, signal, log } = this.#options;
    const changes = this.#changesOf(operation);
    const next = { agent: agentName, ends: [endMessage(message, "answered")] };
    const commit = await commits.commitFiles(at, changes, next, signal);
    const summary = summarizeOperation(operation);
    log.info(
      { messageIds: [message.id], generation: commit.generation, operation: summary },
      "operation applied",
    );
    return commit;
  }

  /** @throws as `upload` */
  async rollback(
    newest: Commit | undefined,
    message: AcceptedMessage,
    { generation: to }: RollbackOperation,
  ): Promise<Commit> {
    const { store, ref, commits, agentName, signal, log } = this.#options;
    if (newest === undefined) throw new GenerationNotFoundError(to);
    let target: Commit;
    try {
      target = await store.readCommit(ref, to, signal);
      await store.readTable(ref, target, signal);
    } catch (error) {
      if (isLost(error)) throw new GenerationUnreadableError(to, error);
      throw error;
    }
    const next = { agent: agentName, ends: [endMessage(message, "answered")] };
    const commit = await commits.rollBack(newest, target, next);
    log.info(
      {
        messageIds: [message.id],
        generation: commit.generation,
        operation: { type: "rollback", generation: to },
      },
      "operation applied",
    );
    return commit;
  }

  #changesOf({ set, directories = [], links = [], remove }: UploadOperation): FileChanges {
    const { disk, files } = this.#options.definition.limits;
    return {
      set: [
        ...directories.map(({ path, mode, modifiedAt }) => ({
          type: "directory" as const,
          path: this.#kept(path),
          ...(mode === undefined ? {} : { mode }),
          ...timeOf(modifiedAt),
        })),
        ...set.map((file) => this.#fileOf(file)),
        ...links.map(({ path, target, modifiedAt }) => ({
          type: "link" as const,
          path: this.#kept(notOfTheSession(path)),
          target: operationPathBytes(target),
          ...timeOf(modifiedAt),
        })),
      ],
      remove: remove.map((path) => operationPathBytes(notOfTheSession(path))),
      quota: { bytes: disk, files },
    };
  }

  #fileOf({ path: given, sha256, sizeBytes, mode, modifiedAt }: UploadOperation["set"][number]): FileChange {
    const { store, ref, signal } = this.#options;
    const path = this.#kept(notOfTheSession(given));
    const open = async function* () {
      try {
        yield* (await store.openInbound(ref, sha256, signal)).stream();
      } catch (error) {
        if (isLost(error)) throw new UploadContentError(showPath(path), error);
        throw error;
      }
    };
    return {
      path,
      content: { sizeBytes, open },
      ...(mode === undefined ? {} : { mode }),
      ...timeOf(modifiedAt),
    };
  }

  /** A path that the next mirror does not leave out again, itself or with a directory that it lies in. */
  #kept(given: OperationPath): Buffer {
    const path = operationPathBytes(given);
    const parts = pathOf(path).split("/");
    if (parts.some((_, index) => this.#isExcluded(parts.slice(0, index + 1).join("/"))))
      throw new PathExcludedError(showPath(path));
    return path;
  }
}

/** A path where a file or a link may be, or nothing: the next sandbox needs the session's own directories. */
function notOfTheSession(given: OperationPath): OperationPath {
  const path = operationPathBytes(given);
  if (SESSION_DIRECTORIES.some((name) => path.equals(Buffer.from(name))))
    throw new UnsafePathError(showPath(path), "not-a-file", "every session has a directory there");
  return given;
}

function timeOf(modifiedAt: string | undefined): { readonly mtimeMs?: number } {
  return modifiedAt === undefined ? {} : { mtimeMs: Date.parse(modifiedAt) };
}

/** What an operation itself names is not there as it was: with the session's own files it would be the operator's matter. */
function isLost(error: unknown): error is ObjectNotFoundError | CorruptObjectError {
  return error instanceof ObjectNotFoundError || error instanceof CorruptObjectError;
}
