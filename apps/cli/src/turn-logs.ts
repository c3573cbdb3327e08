import { turnLogListSchema } from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { columns } from "./output.ts";
import { readPages } from "./read-pages.ts";
import { sessionPath } from "./session-files.ts";

/** `longshore sessions turn-logs`: the logs of a session's turns, newest first; with the id of one, what is in it. */
export async function showTurnLogs(
  context: CommandContext,
  sessionId: string,
  logId: string | undefined,
  options: GlobalOptions & { readonly limit: number },
): Promise<void> {
  const client = openClient(context, options);
  const path = `${sessionPath(sessionId)}/turn-logs`;
  if (logId !== undefined) {
    const content = await client.download(`${path}/${encodeURIComponent(logId)}`, context.signal);
    for await (const chunk of content) await context.output.writeAll(chunk);
    return;
  }
  const logs = await readPages(client, {
    path,
    schema: turnLogListSchema,
    itemsOf: (page) => page.turnLogs,
    limit: options.limit,
    signal: context.signal,
  });
  context.output.result(logs, () =>
    columns(logs.map(({ id, startedAt, sizeBytes }) => [startedAt, id, `${sizeBytes} bytes`])),
  );
}
