import type { Artifact, ConversationPlace, Reply } from "@longshore/shared";
import type { CollectedFiles } from "./outbox-files.ts";

/** What an agent says before its turn has ended. */
export interface OutgoingMessage {
  readonly text: string;
  /** Paths of files that go with it, as the agent has them. @default none */
  readonly files?: readonly string[];
  /** A destination of the route. @default the turn's conversation */
  readonly to?: ConversationPlace | undefined;
  /** Of what it is another text, or a reaction to it: `of`. @default a message */
  readonly change?: { readonly kind: "edit" | "reaction"; readonly of: string } | undefined;
}

/** What became of it. */
export interface SentMessage extends CollectedFiles {
  /** The reply's, by which it can be edited. */
  readonly id: string;
  readonly artifacts: readonly Artifact[];
}

/** What of a message before the turn's end is in its reply. */
export type SentContent = Pick<Reply, "kind" | "text" | "of" | "question">;
