import { deadLetterPageSchema, retriedSchema } from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { columns } from "./output.ts";
import { printableLine } from "./printable.ts";
import { readPages } from "./read-pages.ts";

/** Characters of a text that a line of the list shows. */
const EXCERPT_LENGTH = 40;

/** `longshore dead ls`: messages that were given up on and replies that could not be delivered, latest first. */
export async function listDeadLetters(
  context: CommandContext,
  options: GlobalOptions & { readonly limit: number },
): Promise<void> {
  const letters = await readPages(openClient(context, options), {
    path: "/dead-letters",
    schema: deadLetterPageSchema,
    itemsOf: ({ deadLetters }) => deadLetters,
    limit: options.limit,
    signal: context.signal,
  });
  context.output.result(letters, () =>
    columns(
      letters.map(({ id, kind, diedAt, channel, conversation, error, excerpt }) => [
        id,
        kind,
        diedAt,
        printableLine(`${channel}/${conversation}`),
        printableLine(error.code),
        printableLine(excerpt.slice(0, EXCERPT_LENGTH)),
      ]),
    ),
  );
}

/** `longshore dead retry`: each is tried again; stops at the first that can't be. */
export async function retryDeadLetters(
  context: CommandContext,
  ids: readonly string[],
  options: GlobalOptions,
): Promise<void> {
  const client = openClient(context, options);
  const { signal, output } = context;
  const retried: object[] = [];
  for (const id of ids) {
    const result = await client.post(`/dead-letters/${encodeURIComponent(id)}/retry`, {}, retriedSchema, {
      signal,
    });
    retried.push({ id, ...result });
    if (!output.json) output.write(`${id} is tried again as ${result.messageId ?? result.replyId ?? id}\n`);
  }
  if (output.json) output.result(retried, () => "");
}

/** `longshore dead drop`: each is dropped for good; stops at the first that can't be. */
export async function dropDeadLetters(
  context: CommandContext,
  ids: readonly string[],
  options: GlobalOptions,
): Promise<void> {
  const client = openClient(context, options);
  const { signal, output } = context;
  for (const id of ids) {
    await client.delete(`/dead-letters/${encodeURIComponent(id)}`, { signal });
    if (!output.json) output.write(`${id} is dropped\n`);
  }
  if (output.json) output.result({ dropped: ids }, () => "");
}
