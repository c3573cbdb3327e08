import { AmbiguousPutError } from "../errors.ts";
import { DEFAULT_RETRY, retrying } from "../retry.ts";
import type { Backend, Content, PutAnswer, PutOptions } from "./backend.ts";

/**
 * Puts an object whose key tells its content (a hash of it, or a random name): whoever made it, once it exists it is
 * the right one. So an ambiguous put is simply tried again.
 *
 * @throws AmbiguousPutError after the retries
 */
export function putContent(
  backend: Backend,
  key: string,
  content: Content,
  random: () => number,
  options: PutOptions = {},
): Promise<PutAnswer> {
  return retrying(
    () => backend.putIfAbsent(key, content, options),
    (error) => error instanceof AmbiguousPutError,
    DEFAULT_RETRY,
    random,
    options.signal,
  );
}
