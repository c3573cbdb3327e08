import type { z } from "zod";
import type { ApiClient } from "./api-client.ts";

/** Pages of the API hold at most so many. */
const PAGE = 100;

/** What a list of the API gives, page after page, up to `limit`. */
export async function readPages<Page extends { readonly cursor?: string | undefined }, Item>(
  client: ApiClient,
  {
    path,
    schema,
    itemsOf,
    limit,
    signal,
  }: {
    readonly path: string;
    readonly schema: z.ZodType<Page>;
    readonly itemsOf: (page: Page) => readonly Item[];
    readonly limit: number;
    readonly signal: AbortSignal;
  },
): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | undefined;
  do {
    const query = new URLSearchParams({ limit: String(Math.min(PAGE, limit - items.length)) });
    if (cursor !== undefined) query.set("cursor", cursor);
    const page = await client.get(`${path}?${query}`, schema, { signal });
    items.push(...itemsOf(page));
    cursor = page.cursor;
  } while (cursor !== undefined && items.length < limit);
  return items;
}
