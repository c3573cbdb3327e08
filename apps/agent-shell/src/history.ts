import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { PromptMessage } from "./prompt.ts";

/** One turn as it is remembered: what was asked, and the text that answered it. */
export interface HistoryEntry {
  readonly messages: readonly PromptMessage[];
  readonly reply: string;
}

/** Characters of a message or reply that are remembered, and turns that `entries` gives back. */
const TEXT_LIMIT = 4096;
const ENTRY_LIMIT = 1000;

/** What an id of ours looks like; anything else a client asks for could be a path. */
const ID = /^shell-[0-9a-f]{16}$/;

/**
 * What the agent remembers of one ACP session: one line of JSON a turn in `<home>/.agent-shell/<id>.jsonl`.
 * It travels with the session directory, so that a session that is resumed on another host goes on counting.
 */
export class History {
  readonly id: string;
  readonly #path: string;
  readonly #entries: HistoryEntry[] = [];
  #messageCount = 0;

  private constructor(home: string, id: string) {
    this.id = id;
    this.#path = pathOf(home, id);
  }

  /** Begins an empty history with an id that no other has. */
  static async create(home: string): Promise<History> {
    const history = new History(home, `shell-${randomBytes(8).toString("hex")}`);
    await mkdir(directoryOf(home), { recursive: true });
    await writeFile(history.#path, "", { flag: "wx" });
    return history;
  }

  /** Reads a history back; undefined where there is none of that id. */
  static async open(home: string, id: string): Promise<History | undefined> {
    if (!ID.test(id)) {
      return undefined;
    }
    const history = new History(home, id);
    try {
      for await (const line of createInterface({ input: createReadStream(history.#path) })) {
        history.#remember(JSON.parse(line) as HistoryEntry);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") {
        return undefined;
      }
      throw error;
    }
    return history;
  }

  /** Messages of all turns, also of those that `entries` no longer gives. */
  get messageCount(): number {
    return this.#messageCount;
  }

  /** The last turns, oldest first; at most 1,000. */
  get entries(): readonly HistoryEntry[] {
    return this.#entries;
  }

  async append(messages: readonly PromptMessage[], reply: string): Promise<void> {
    const entry: HistoryEntry = {
      messages: messages.map((message) => ({ ...message, text: message.text.slice(0, TEXT_LIMIT) })),
      reply: reply.slice(0, TEXT_LIMIT),
    };
    await appendFile(this.#path, `${JSON.stringify(entry)}\n`);
    this.#remember(entry);
  }

  #remember(entry: HistoryEntry): void {
    this.#messageCount += entry.messages.length;
    this.#entries.push(entry);
    if (this.#entries.length > ENTRY_LIMIT) {
      this.#entries.shift();
    }
  }
}

function directoryOf(home: string): string {
  return join(home, ".agent-shell");
}

function pathOf(home: string, id: string): string {
  return join(directoryOf(home), `${id}.jsonl`);
}
