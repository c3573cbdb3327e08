import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import type { AccessRule } from "@longshore/shared";

/** Whose sandbox it is. Every container, cgroup and record carries all of it, so that a reaper can judge. */
export interface SandboxLabels {
  /** The host's name; workers of several hosts may share an engine. */
  readonly host: string;
  /** The worker's id, unique for each start of a worker. */
  readonly worker: string;
  readonly tenant: string;
  /** Empty where it was started ahead of its session. */
  readonly sessionId: string;
  /** The fencing number of the activation's lease; 0 where it was started ahead of its session. */
  readonly epoch: number;
  /** The activation's nonce: random, unique, letters, digits, `_`, `.` and `-`, at most 64. */
  readonly nonce: string;
  /** Hash of the agent's definition, where it was started ahead of its session. */
  readonly definition?: string;
}

/** What a sandbox may use at most. Sizes are bytes. */
export interface SandboxLimits {
  /** Memory of all processes and of `/tmp` and `/dev/shm` together; no swap on top. At least 8 MiB. */
  readonly memoryBytes: number;
  /** Processor time as a share of cores, for instance 0.5. */
  readonly cpus: number;
  /** Processes and threads together. gVisor counts its own threads too and gets at least 1,024. */
  readonly pids: number;
  /** Open descriptors of one process. @default 4096 */
  readonly openFiles?: number;
  /** Size of any one file. @default 1 GiB */
  readonly fileBytes?: number;
  /** Size of `/tmp`. @default 64 MiB */
  readonly tmpBytes?: number;
  /** Size of `/dev/shm`. @default 16 MiB */
  readonly shmBytes?: number;
}

/** An unprivileged user of the host, shared with no other sandbox on it. */
export interface SandboxUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Serves a connection that something in the sandbox made. The socket belongs to it from then on and is
 * destroyed with the sandbox at the latest; whatever is in the sandbox may have made it.
 */
export type ServeConnection = (socket: Socket) => void;

/** A directory of the host that is seen inside. */
export interface SandboxMount {
  /** Absolute path on the host, without links. What is mounted below it there is seen with bwrap only. */
  readonly source: string;
  /** Absolute path inside, below `/session/workspace/` or `/session/home/`. It exists in the slot, and nothing on the way to it is a link. */
  readonly target: string;
  readonly readOnly: boolean;
}

export interface SandboxSpec {
  readonly labels: SandboxLabels;
  /** docker: the image's name or id. It must be there already; nothing is pulled. */
  readonly image?: string;
  /**
   * bwrap: `"host"` shows the host's read-only system paths (`/usr` and a few files of `/etc`); else the
   * absolute path of an unpacked image.
   */
  readonly rootfs?: string;
  /** The whole command line. @default docker: the image's own; bwrap has no default */
  readonly command?: readonly string[];
  /** The environment, besides defaults of PATH, HOME and TMPDIR. Nothing of the host's gets in. */
  readonly env: Readonly<Record<string, string>>;
  /** Absolute, inside the sandbox. */
  readonly workingDirectory: string;
  /** Absolute path on the host; mounted writable at `/session`. It exists and belongs to `user`. */
  readonly slotDirectory: string;
  readonly user: SandboxUser;
  /** @default none */
  readonly mounts?: readonly SandboxMount[];
  /**
   * What it may do where, every directory before what is in it. The directories of `accessMountPoints` exist in the slot, and
   * nothing on the way to them is a link. @default all of the session and of /tmp is writable, all else readable
   */
  readonly access?: readonly AccessRule[];
  readonly limits: SandboxLimits;
  /** docker: name of an OCI runtime that the engine knows (`runc`, `runsc`). @default the engine's own */
  readonly ociRuntime?: string;
  /** Serves what connects to the loopback port `EGRESS_PORT` inside. @default nothing listens there */
  readonly egress?: ServeConnection;
  /**
   * For the contract `mailbox-db`: the main process is `longshore-mailbox` (`init/longshore-mailbox.c`), which runs the
   * command when it is told to, and the slot is seen at `/workspace`, too. @default false
   */
  readonly mailbox?: boolean;
  /** Serves what runs `TOOLS_COMMAND` inside: the stream of its standard input and output. @default none */
  readonly tools?: ServeConnection;
}

/** How the main process ended. */
export interface SandboxExit {
  /** As a shell tells it: 128 + n when signal n killed it. Null where nobody could learn it. */
  readonly exitCode: number | null;
  /** Name of the signal that `exitCode` tells of; a program that exits with 137 by itself looks the same. */
  readonly signal: string | null;
  /** The kernel killed the main process since memory was used up; of gVisor not always told by the engine. */
  readonly outOfMemory: boolean;
}

/**
 * One running sandbox.
 *
 * States: running ⇄ paused; both → exited (the main process ended, or `stop`) → destroyed. `destroy` works
 * from every state. When the main process ends, everything else in the sandbox is killed.
 */
export interface Sandbox {
  readonly id: string;
  /** Standard input of the main process. Failing writes tell it by their callback; `exited` tells why. */
  readonly stdin: Writable;
  /**
   * Standard output of the main process, as bytes. Not reading it blocks the sandbox's writers; it never
   * makes the worker buffer more than a few hundred KiB.
   */
  readonly stdout: Readable;
  /** The last lines of standard error: bounded, valid Unicode. */
  stderrTail(): string;
  /**
   * How the main process ended. Rejects with `EngineUnreachableError` when the engine went away and with
   * `SandboxStartError` when it ended before its program ran; it settles in every case and needs no handler.
   */
  readonly exited: Promise<SandboxExit>;
  /** When it resolves, no process of the sandbox runs until `resume`. Nothing to do if it is ended. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /**
   * SIGTERM to the main process (a paused sandbox is resumed first), then after `graceMs` SIGKILL to
   * everything. Resolves when the main process has ended.
   */
  stop(graceMs: number): Promise<void>;
  /**
   * Kills everything in it and removes every trace on the host but the slot. Idempotent; resolves when it
   * is gone.
   * @throws SandboxStuckError when it will not die: its slot and user must not be given to another
   */
  destroy(): Promise<void>;
}

/** What a runtime found when it was checked. */
export interface RuntimeReport {
  /** Name and version of what runs the sandboxes, for logs. */
  readonly version: string;
  /** Promises that this host can't keep in full, each with the way to mend it. */
  readonly weaknesses: readonly string[];
}

/** A sandbox that a reaper could not end. */
export interface ReapFailure {
  readonly id: string;
  readonly error: unknown;
}

export interface ReapResult {
  /** Sandboxes that were removed. */
  readonly removed: readonly SandboxLabels[];
  readonly stuck: readonly ReapFailure[];
}

/** Says whether the activation that a sandbox belongs to still lives, from before its start to after its end. */
export type IsLive = (labels: SandboxLabels) => Promise<boolean>;

export interface SandboxRuntime {
  readonly name: "docker" | "bwrap";
  /**
   * Whether sandboxes can be started now.
   * @throws EngineUnreachableError, EngineTimeoutError, RuntimeUnavailableError with how to mend it
   */
  check(signal?: AbortSignal): Promise<RuntimeReport>;
  /**
   * Starts a sandbox; resolves when its program runs. When it rejects, nothing is left on the host, save for an engine that can't be
   * reached: then the reaper removes it later.
   * @param signal ends the start; it then rejects with the signal's reason, after cleaning up
   * @throws SandboxSpecError, ImageMissingError, CommandFailedError, SandboxStartError, EngineUnreachableError,
   * EngineTimeoutError
   */
  start(spec: SandboxSpec, signal?: AbortSignal): Promise<Sandbox>;
  /**
   * Told that a start with these labels comes as soon as its slot is there, so that both get ready at the same time. What is made
   * for one that does not come is the reaper's to remove.
   */
  foresee?(labels: Pick<SandboxLabels, "worker" | "nonce">): void;
  /**
   * Removes the sandboxes of this host and run directory whose activation is over.
   * @throws EngineUnreachableError, EngineTimeoutError when it can't even look
   */
  reap(isLive: IsLive): Promise<ReapResult>;
}
