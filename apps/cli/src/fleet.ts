import { queueListSchema, workerListSchema } from "./api-schemas.ts";
import { type CommandContext, type GlobalOptions, openClient } from "./command-context.ts";
import { columns } from "./output.ts";
import { printableLine } from "./printable.ts";

/** `longshore workers`: who works, with places and activations. */
export async function listWorkers(context: CommandContext, options: GlobalOptions): Promise<void> {
  const { signal, output } = context;
  const { workers } = await openClient(context, options).get("/workers", workerListSchema, { signal });
  output.result(workers, () =>
    columns(
      workers.map(({ workerId, host, startedAt, places, draining, activations }) => {
        const taken = Object.values(activations).reduce((total, count) => total + count, 0);
        const states = Object.entries(activations).map(([state, count]) => `${count} ${state}`);
        return [
          printableLine(workerId),
          printableLine(host),
          `since ${startedAt}`,
          `${taken} of ${places} places`,
          printableLine([...(draining ? ["draining"] : []), ...states].join(", ")),
        ];
      }),
    ),
  );
}

/** `longshore queues`: jobs by queue and state. */
export async function listQueues(context: CommandContext, options: GlobalOptions): Promise<void> {
  const { signal, output } = context;
  const { queues } = await openClient(context, options).get("/queues", queueListSchema, { signal });
  output.result(queues, () =>
    columns(
      queues.map(({ name, jobs }) => [
        printableLine(name),
        ...Object.entries(jobs).map(([state, count]) => `${count} ${printableLine(state)}`),
      ]),
    ),
  );
}
