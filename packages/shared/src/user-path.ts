import { hashId } from "./session-id.ts";

/** An id that is safe as one part of a path as it is. */
const PLAIN = /^(?!\.{1,2}$)[A-Za-z0-9._@+=-]{1,100}$/;

/**
 * A user's name in paths and in names of volumes: `<channel>/<id>`, since an id is only what its channel vouches for. An id
 * that is no plain name is told by its hash, behind a `~`, which no plain name has.
 */
export function userPath({
  channel,
  sender,
}: {
  readonly channel: string;
  readonly sender: { readonly id: string };
}): string {
  return `${channel}/${PLAIN.test(sender.id) ? sender.id : `~${hashId("user", channel, sender.id)}`}`;
}
