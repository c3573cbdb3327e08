import type { Cluster, Redis } from "ioredis";

export interface SetMember {
  readonly id: string;
  readonly score: number;
}

export interface SetPage {
  readonly members: readonly SetMember[];
  /** For the page after this one; undefined on the last. */
  readonly cursor: string | undefined;
}

/** A cursor is none that a page before gave. */
export class BadCursorError extends RangeError {
  constructor() {
    super("not a cursor of a page before");
  }
}

/**
 * A page of a sorted set, highest score first. A cursor names the last member of its page; members of the same score
 * are in the order of their ids, so that none is left out between pages.
 *
 * @param options.limit most to give, at least 1
 * @throws BadCursorError
 */
export async function readSetPage(
  redis: Redis | Cluster,
  key: string,
  { limit, cursor }: { readonly limit: number; readonly cursor?: string | undefined },
): Promise<SetPage> {
  const after = cursor === undefined ? undefined : parseCursor(cursor);
  const found: SetMember[] = [];
  const from = after === undefined ? "+inf" : String(after.score);
  // One more than asked for says whether there is another page.
  const count = limit + 1;
  for (let offset = 0; found.length <= limit; offset += count) {
    const flat = await redis.zrevrangebyscore(key, from, "-inf", "WITHSCORES", "LIMIT", offset, count);
    for (let at = 0; at + 1 < flat.length; at += 2) {
      const member = { id: flat[at] as string, score: Number(flat[at + 1]) };
      if (after === undefined || isAfter(member, after)) found.push(member);
    }
    if (flat.length < 2 * count) break;
  }
  const members = found.slice(0, limit);
  const last = members.at(-1);
  return {
    members,
    cursor: found.length > limit && last !== undefined ? `${last.score}-${last.id}` : undefined,
  };
}

function isAfter(member: SetMember, cursor: SetMember): boolean {
  return member.score === cursor.score ? member.id < cursor.id : member.score < cursor.score;
}

function parseCursor(text: string): SetMember {
  const [, score, id] = /^(\d{1,16})-([a-z0-9-]{1,128})$/.exec(text) ?? [];
  if (score === undefined || id === undefined) throw new BadCursorError();
  return { id, score: Number(score) };
}
