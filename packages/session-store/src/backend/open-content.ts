import { ContentSizeError } from "../errors.ts";
import type { Content } from "./backend.ts";

/**
 * The parts of some content, from its beginning, checked to be as much as its source said: with fewer bytes than were
 * announced a server waits for the rest until it gives up.
 *
 * @param name of the content, for messages
 * @throws ContentSizeError
 */
export async function* openContent(name: string, content: Content): AsyncGenerator<Buffer> {
  if (Buffer.isBuffer(content)) return yield content;
  let done = 0;
  for await (const part of content.open()) {
    done += part.length;
    if (done > content.sizeBytes) throw new ContentSizeError(name, content.sizeBytes, done);
    yield part;
  }
  if (done < content.sizeBytes) throw new ContentSizeError(name, content.sizeBytes, done);
}
