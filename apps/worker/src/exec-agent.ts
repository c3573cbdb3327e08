import type { Sandbox } from "@longshore/sandbox";
import type { AgentDefinition, Clock } from "@longshore/shared";
import { type Agent, CANCEL_GRACE_MS, endsAtOnce, type PromptOptions, type TurnPrompt } from "./agent.ts";
import { AgentExitedError, AgentOutOfMemoryError, TurnTimeoutError } from "./errors.ts";
import { ExecOutput } from "./exec-output.ts";
import { execPrompt } from "./prompt.ts";
import { TurnLimits } from "./turn-limits.ts";
import type { TurnSandbox } from "./turn-sandbox.ts";

/**
 * Any command as an agent: a process, and a sandbox, for each turn. It gets the prompt as JSON on standard input, what it
 * writes to standard output (`ExecOutput`) is the reply, and its exit status says whether the turn succeeded.
 *
 * A command that wrote something and then nothing for the idle limit has answered: what there is becomes the reply, marked
 * as cut. One that is to end gets SIGTERM, then SIGKILL, with all that it started.
 */
export class ExecAgent implements Agent {
  readonly #sandbox: TurnSandbox;
  readonly #definition: AgentDefinition;
  readonly #sessionId: string;
  readonly #clock: Clock;
  readonly #closed = Promise.withResolvers<void>();
  #hasEnded = false;

  constructor(options: {
    readonly sandbox: TurnSandbox;
    readonly definition: AgentDefinition;
    readonly sessionId: string;
    readonly clock: Clock;
  }) {
    this.#sandbox = options.sandbox;
    this.#definition = options.definition;
    this.#sessionId = options.sessionId;
    this.#clock = options.clock;
  }

  get ended(): Promise<void> {
    return this.#closed.promise;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** There is nothing that it would remember beside the session directory. */
  async open(): Promise<undefined> {
    return undefined;
  }

  async prompt({ messages }: TurnPrompt, { onUpdate, askedUntil, signal }: PromptOptions): Promise<void> {
    const sandbox = await this.#sandbox.start(signal);
    const { limits } = this.#definition;
    const turnLimits = new TurnLimits(limits, this.#clock, () => sandbox.stderrTail(), askedUntil);
    const stop = AbortSignal.any([turnLimits.signal, signal]);
    let hasSpoken = false;
    const output = new ExecOutput(limits.output, (update) => {
      hasSpoken = true;
      onUpdate(update);
    });
    const exit = this.#follow(sandbox, output, turnLimits);
    // It need not read what it is asked.
    sandbox.stdin.on("error", () => undefined);
    sandbox.stdin.end(`${JSON.stringify(execPrompt(this.#sessionId, messages))}\n`);
    try {
      await Promise.race([exit, aborted(stop)]);
      // What a cancelled turn answers is not the answer.
      stop.throwIfAborted();
      const { outOfMemory, exitCode, signal: killedBy } = await exit;
      this.#sandbox.discard();
      if (outOfMemory) throw new AgentOutOfMemoryError(limits.memory, sandbox.stderrTail());
      if (exitCode !== 0) throw new AgentExitedError(exitCode, killedBy, sandbox.stderrTail());
    } catch (error) {
      if (!stop.aborted) throw error;
      // A sandbox whose lease is lost is paused, and must not run again to come to an end.
      if (!endsAtOnce(stop.reason)) {
        await sandbox.stop(CANCEL_GRACE_MS);
        await exit.catch(() => undefined);
      }
      if (!hasSpoken || signal.aborted || !isIdle(stop.reason)) throw stop.reason;
      onUpdate({ type: "cut", reason: `nothing more came for ${limits.idle} ms` });
    } finally {
      turnLimits.stop();
    }
  }

  stderrTail(): string {
    return this.#sandbox.stderrTail();
  }

  close(): void {
    this.#hasEnded = true;
    this.#closed.resolve();
  }

  /** How it ended, when all that it wrote was read. */
  async #follow(sandbox: Sandbox, output: ExecOutput, limits: TurnLimits) {
    const read = (async () => {
      for await (const bytes of sandbox.stdout) {
        limits.sign();
        output.write(bytes);
      }
      output.end();
    })();
    // Where the engine went away, that is what to tell, and not that the stream broke.
    await read.catch(() => undefined);
    const exit = await sandbox.exited;
    await read;
    return exit;
  }
}

function isIdle(reason: unknown): boolean {
  return reason instanceof TurnTimeoutError && reason.code === "IDLE_TIMEOUT";
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
