import { commitNoteSchema } from "./commit-note.ts";
import type { Configuration } from "./configuration-schema.ts";
import { volumeNoteSchema } from "./volume-note.ts";

/** Which generations of a session are kept: so many of the newest, and those that are younger than so many days. */
export interface SessionRetention {
  readonly generations: number;
  readonly days: number;
}

/** Of sessions whose agent is not configured any more, as of those whose definition says nothing. */
const DEFAULT: SessionRetention = { generations: 50, days: 30 };

/** What is kept of a tenant's session or volume, by the note of its newest commit. */
export function retentionOf({ agents }: Configuration, tenant: string, note: unknown): SessionRetention {
  const { agent } = commitNoteSchema.safeParse(note).data ??
    volumeNoteSchema.safeParse(note).data ?? { agent: undefined };
  const definition = agent !== undefined && Object.hasOwn(agents, agent) ? agents[agent] : undefined;
  return definition?.tenant === tenant ? definition.retention : DEFAULT;
}
