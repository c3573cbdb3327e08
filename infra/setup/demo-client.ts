import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { deriveSessionId } from "@longshore/shared";
import { SetupError } from "./errors.ts";
import type { LocalFleet } from "./local-fleet.ts";
import { nodeBinary, repositoryRoot } from "./paths.ts";

const conversation = "demo";

export interface SendOptions {
  /** A file to attach. */
  readonly attach?: string;
  /** Told of the output as it comes. */
  readonly onOutput?: (text: string) => void;
}

/** Talks to a fleet as a user does: by the `longshore` command. */
export class DemoClient {
  readonly #fleet: LocalFleet;
  readonly #signal: AbortSignal;

  constructor(fleet: LocalFleet, signal: AbortSignal) {
    this.#fleet = fleet;
    this.#signal = signal;
  }

  /** Sends a message, shows it and its reply as it streams, and waits for its end. */
  async send(id: string, text: string, { attach, onOutput }: SendOptions = {}): Promise<void> {
    console.log(`> ${text}`);
    const attachment = attach === undefined ? [] : ["--attach", attach];
    await this.#longshore(
      ["send", "--stream", "--conversation", conversation, "--id", id, ...attachment, text],
      onOutput,
    );
  }

  /** Shows the demo's session: its generations, and the files of the newest. */
  async showSession(): Promise<void> {
    const session = deriveSessionId("per-thread", {
      tenant: "default",
      agent: "helper",
      channel: "http",
      conversation,
    });
    await this.#longshore(["sessions", "show", session]);
    console.log();
    await this.#longshore(["sessions", "files", session]);
  }

  async #longshore(args: readonly string[], onOutput?: (text: string) => void): Promise<void> {
    const child = spawn(nodeBinary, [join(repositoryRoot, "apps/cli/bin/longshore.mjs"), ...args], {
      env: { ...this.#fleet.environment, LONGSHORE_URL: this.#fleet.url, LONGSHORE_KEY: this.#fleet.key },
      stdio: ["ignore", "pipe", "pipe"],
      signal: this.#signal,
    });
    // Both to where everything else of the demo goes, so that their order is kept.
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        process.stdout.write(text);
        onOutput?.(text);
      });
    }
    const [status] = await once(child, "close");
    if (status !== 0) {
      throw new SetupError("SETUP_COMMAND_FAILED", `longshore ${args[0]} ended with status ${status}`);
    }
  }
}
