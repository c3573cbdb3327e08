import type { Commit } from "@longshore/session-store";
import { type Configuration, commitNoteSchema } from "@longshore/shared";
import { z } from "zod";

export const externalFilesSchema = z.object({
  /** From the session directory. */
  path: z.string(),
  kind: z.enum(["mount", "volume", "skill"]),
  mode: z.enum(["ro", "rw"]),
});
export type ExternalFiles = z.output<typeof externalFilesSchema>;

const SESSION = "/session/";

/** What a session's agent sees in its directory that is no part of it, in or below a directory; as its definition is now. */
export function externalFiles({ agents }: Configuration, commit: Commit, under: string): ExternalFiles[] {
  const name = commitNoteSchema.safeParse(commit.note).data?.agent ?? "";
  if (!Object.hasOwn(agents, name)) return [];
  const { mounts = [], volumes = [], skills = [] } = agents[name] ?? {};
  const all = [
    ...mounts.map(({ target, mode }) => ({ target, kind: "mount", mode }) as const),
    ...volumes.map(({ target, mode }) => ({ target, kind: "volume", mode }) as const),
    ...skills.map(({ target }) => ({ target, kind: "skill", mode: "ro" }) as const),
  ];
  return all
    .map(({ target, ...what }) => ({ path: target.slice(SESSION.length), ...what }))
    .filter(({ path }) => under === "" || path === under || path.startsWith(`${under}/`));
}
