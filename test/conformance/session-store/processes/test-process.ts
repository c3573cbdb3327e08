import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A process of a test that is told things and says things, line by line. */
export class TestProcess implements AsyncDisposable {
  /** All that it said so far. */
  readonly said: string[] = [];
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #complaints = "";
  #ended = false;
  #wake: () => void = () => undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#closed = once(child, "close").then(() => {
      this.#ended = true;
      this.#wake();
    });
    child.stderr?.on("data", (part: Buffer) => {
      this.#complaints += part.toString();
    });
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      this.said.push(line);
      this.#wake();
    });
  }

  /** Starts a program of this directory. @param order given as JSON in its first argument */
  static start(program: string, order: object): TestProcess {
    const args = [join(import.meta.dirname, program), JSON.stringify(order)];
    return new TestProcess(spawn(process.execPath, args, { stdio: ["pipe", "pipe", "pipe"] }));
  }

  tell(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  /** Waits until it has said so many lines. */
  async lines(count: number): Promise<void> {
    while (this.said.length < count) {
      if (this.#ended) throw new Error(`a process ended early: ${this.#complaints}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Waits for its end by itself. @throws Error when it failed */
  async end(): Promise<void> {
    await this.#closed;
    if (this.#child.exitCode !== 0) throw new Error(`a process failed: ${this.#complaints}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#closed;
  }
}
