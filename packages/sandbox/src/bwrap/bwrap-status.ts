import type { Readable } from "node:stream";
import { settlesWithin } from "../deadline.ts";

/** bubblewrap writes less than 300 bytes here. */
const STATUS_BYTES_MAX = 4096;
/** The stream ends with the watcher, which has ended before anybody asks. */
const END_TIMEOUT_MS = 1_000;

/** What bubblewrap tells about the process inside, as JSON lines. */
export class BwrapStatus {
  #text = "";
  #childPid: number | undefined;
  readonly #ended: Promise<void>;

  constructor(stream: Readable) {
    const ended = Promise.withResolvers<void>();
    this.#ended = ended.promise;
    stream.setEncoding("latin1");
    stream.on("data", (text: string) => {
      if (this.#text.length < STATUS_BYTES_MAX) this.#text += text;
      this.#childPid ??= this.#number("child-pid");
    });
    stream.on("error", () => ended.resolve());
    stream.once("close", () => ended.resolve());
    stream.once("end", () => ended.resolve());
  }

  /** The sandbox's first process, as the host numbers it; undefined until it is there. */
  get childPid(): number | undefined {
    return this.#childPid;
  }

  /** The command's exit status, when bubblewrap has ended; undefined if the command never ran or was killed. */
  async exitCode(): Promise<number | undefined> {
    await settlesWithin(this.#ended, END_TIMEOUT_MS);
    return this.#number("exit-code");
  }

  #number(field: string): number | undefined {
    const digits = new RegExp(`"${field}": (\\d+)`).exec(this.#text)?.[1];
    return digits === undefined ? undefined : Number(digits);
  }
}
