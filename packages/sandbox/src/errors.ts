import { LongshoreError } from "@longshore/shared";

/** The container engine did not answer: not running, restarted, or its socket is not ours to use. */
export class EngineUnreachableError extends LongshoreError {
  /** As configured, for instance `unix:///run/docker.sock`. */
  readonly address: string;

  constructor(address: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super("ENGINE_UNREACHABLE", `the container engine at ${address} can't be reached: ${reason}`, {
      retryable: true,
      cause,
    });
    this.address = address;
  }
}

/** An engine call took longer than its deadline. What it asked for may still happen. */
export class EngineTimeoutError extends LongshoreError {
  readonly operation: string;
  readonly timeoutMs: number;

  constructor(operation: string, timeoutMs: number) {
    super("ENGINE_TIMEOUT", `the engine did not finish "${operation}" within ${timeoutMs} ms`, {
      retryable: true,
    });
    this.operation = operation;
    this.timeoutMs = timeoutMs;
  }
}

/** The engine refused or failed a call: the sandbox is gone, or the engine is in trouble. */
export class EngineCallError extends LongshoreError {
  readonly operation: string;
  /** The engine's HTTP status. */
  readonly status: number;

  constructor(operation: string, status: number, cause: Error) {
    super(
      "ENGINE_CALL_FAILED",
      `the engine failed "${operation}" with status ${status}: ${cause.message.trim()}`,
      {
        retryable: status >= 500,
        cause,
      },
    );
    this.operation = operation;
    this.status = status;
  }
}

/** The engine's attach stream is not what the Docker API says: another program, or a proxy in between. */
export class EngineProtocolError extends LongshoreError {
  constructor(detail: string) {
    super("ENGINE_PROTOCOL", `the engine's attach stream makes no sense: ${detail}`, { retryable: true });
  }
}

/** The agent's image is not on this host. Nothing is pulled by a worker. */
export class ImageMissingError extends LongshoreError {
  readonly image: string;

  constructor(image: string, cause?: unknown) {
    super(
      "IMAGE_MISSING",
      `the image ${JSON.stringify(image)} is not on this host; pull, load or build it first`,
      {
        cause,
      },
    );
    this.image = image;
  }
}

/** The specification of a sandbox is wrong: a mistake of the caller, or of the configuration behind it. */
export class SandboxSpecError extends LongshoreError {
  /** The field of `SandboxSpec`, dotted. */
  readonly field: string;

  constructor(field: string, problem: string) {
    super("SANDBOX_SPEC_INVALID", `${field}: ${problem}`);
    this.field = field;
  }
}

/** The runtime accepted the specification and could not start it, for instance since an OCI runtime failed. */
export class SandboxStartError extends LongshoreError {
  constructor(reason: string, options?: { readonly retryable?: boolean; readonly cause?: unknown }) {
    super("SANDBOX_START_FAILED", `the sandbox did not start: ${reason}`, options);
  }
}

/** A slot can't have a file system of its own, or has it no more room for one: the host's trouble, and no agent's. */
export class SlotDiskError extends LongshoreError {
  constructor(reason: string, cause?: unknown) {
    super("SLOT_DISK_FAILED", `a session directory can't have a file system of its own: ${reason}`, {
      retryable: true,
      cause,
    });
  }
}

/** The sandbox is there and the agent's program is not, or can't be run by the sandbox's user. */
export class CommandFailedError extends LongshoreError {
  /** Empty for the image's own. */
  readonly command: readonly string[];
  /** Why it could not be run: ENOENT, EACCES, ENOEXEC, ... */
  readonly errno: string;

  constructor(command: readonly string[], errno: string) {
    const program = command[0] === undefined ? "the image's own command" : JSON.stringify(command[0]);
    super("COMMAND_FAILED", `${program} can't be run in the sandbox: ${errno}`);
    this.command = command;
    this.errno = errno;
  }
}

/** Everything was tried and processes of the sandbox are still there. Its slot and user stay taken. */
export class SandboxStuckError extends LongshoreError {
  readonly sandboxId: string;

  constructor(sandboxId: string, reason: string, cause?: unknown) {
    super("SANDBOX_STUCK", `sandbox ${sandboxId} will not die: ${reason}`, { retryable: true, cause });
    this.sandboxId = sandboxId;
  }
}

/** This host can't run sandboxes with the runtime. */
export class RuntimeUnavailableError extends LongshoreError {
  readonly runtime: string;
  /** Each with what to change on the host. */
  readonly problems: readonly string[];

  constructor(runtime: string, problems: readonly string[], cause?: unknown) {
    super("RUNTIME_UNAVAILABLE", `${runtime} can't run sandboxes on this host: ${problems.join("; ")}`, {
      cause,
    });
    this.runtime = runtime;
    this.problems = problems;
  }
}

/** Starts failed again and again; none is tried until some time is over. */
export class RuntimeRestingError extends LongshoreError {
  readonly runtime: string;
  readonly failures: number;
  readonly retryInMs: number;

  constructor(runtime: string, failures: number, retryInMs: number, cause: LongshoreError | undefined) {
    super(
      "RUNTIME_RESTING",
      `${runtime} failed to start ${failures} sandboxes in a row, at last with "${cause?.message}"; the next one is tried in ${Math.ceil(retryInMs / 1_000)} s`,
      { retryable: true, cause },
    );
    this.runtime = runtime;
    this.failures = failures;
    this.retryInMs = retryInMs;
  }
}

/** Another process announces itself under the worker's id. Ids must be new for each start of a worker. */
export class WorkerIdTakenError extends LongshoreError {
  readonly workerId: string;

  constructor(workerId: string) {
    super("WORKER_ID_TAKEN", `a live worker of this host already has the id ${JSON.stringify(workerId)}`);
    this.workerId = workerId;
  }
}

/** Every user of the range belongs to a place already; more places than users, or claims that nobody reaped. */
export class SandboxUsersExhaustedError extends LongshoreError {
  readonly firstUid: number;
  readonly count: number;

  constructor(firstUid: number, count: number) {
    super("SANDBOX_USERS_EXHAUSTED", `all ${count} sandbox users from uid ${firstUid} are taken`, {
      retryable: true,
    });
    this.firstUid = firstUid;
    this.count = count;
  }
}
