import type { ListedObject } from "./backend/backend.ts";
import type { StoreContext } from "./store-context.ts";

/** Objects of a page, and when the store began to answer, by its own clock. */
export interface ListedPage {
  readonly objects: readonly ListedObject[];
  readonly storeTimeMs: number;
}

/** All objects below a prefix in the order of their keys, page by page; at least one page, which may be empty. */
export async function* listAll(
  context: StoreContext,
  prefix: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<ListedPage> {
  let startAfter: string | undefined;
  for (;;) {
    const { objects, more, storeTimeMs } = await context.backend.list(prefix, {
      ...(startAfter === undefined ? {} : { startAfter }),
      signal,
    });
    yield { objects, storeTimeMs };
    startAfter = objects.at(-1)?.key;
    if (!more || startAfter === undefined) return;
  }
}
