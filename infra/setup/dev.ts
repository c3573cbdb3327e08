import { join } from "node:path";
import type { Command } from "./command.ts";
import { installPrograms } from "./debian-packages.ts";
import { SetupError } from "./errors.ts";
import { LocalFleet } from "./local-fleet.ts";
import { repositoryRoot } from "./paths.ts";
import { sandboxAtHand } from "./sandbox-at-hand.ts";
import { ScratchDirectory } from "./scratch-directory.ts";

/** Where `longshore` looks for a dispatcher when nothing else is said. */
const defaultPort = 8080;

/**
 * `npm run dev`, `longshore dev`: a whole fleet on this machine until Ctrl-C; nothing of it is left then.
 * The API listens on `PORT`, 8080 by default, or a free port where that is taken.
 */
export const dev: Command = async (context) => {
  await installPrograms(["setpriv", "redis-server"], context);
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await ScratchDirectory.create());
  const sandbox = await sandboxAtHand(context, scratch.path, stack);
  const given = portOf(process.env);
  const start = (port: number) =>
    LocalFleet.start(context, { sandbox, directory: join(scratch.path, "fleet"), port });
  const fleet = stack.use(
    await start(Number(given ?? defaultPort)).catch((error: unknown) => {
      if (given !== undefined || !isPortTaken(error)) throw error;
      return start(0);
    }),
  );
  const worker = await fleet.startWorker();
  console.log(welcome(fleet, sandbox.runtime, worker.ready.metricsUrl));
  await Promise.race([
    new Promise((resolve) => context.signal.addEventListener("abort", resolve, { once: true })),
    ended("dispatcher", fleet.dispatcher),
    ended("worker", worker),
  ]);
  context.report("stopping");
  return 0;
};

/** Rejects when a part of the fleet ends by itself. */
async function ended(
  name: string,
  process: { readonly exited: Promise<string>; logTail(): Promise<string> },
): Promise<never> {
  const how = await process.exited;
  throw new SetupError("SETUP_SERVICE_FAILED", `the ${name} ended (${how}):\n${await process.logTail()}`);
}

function portOf({ PORT }: NodeJS.ProcessEnv): string | undefined {
  return PORT;
}

function isPortTaken(error: unknown): boolean {
  return error instanceof SetupError && /EADDRINUSE/.test(error.message);
}

function welcome(fleet: LocalFleet, runtime: string, workerMetrics: unknown): string {
  const longshore = `${join(repositoryRoot, "apps/cli/bin/longshore.mjs")}`;
  return `
Longshore runs on this machine until Ctrl-C. Agent "helper" is the reference agent, in ${runtime}.

  API      ${fleet.url}/v1      (OpenAPI: ${fleet.url}/openapi.json)
  Redis    ${fleet.environment.REDIS_URL}
  metrics  ${String(fleet.dispatcher.ready.metricsUrl)}/metrics  ${String(workerMetrics)}/metrics

In another terminal:

  export LONGSHORE_URL=${fleet.url} LONGSHORE_KEY=${fleet.key}
  ${longshore} send '$ uname -a; ls -la /session'
  ${longshore} chat
  ${longshore} sessions ls
  curl -H "authorization: Bearer $LONGSHORE_KEY" -H 'content-type: application/json' \\
    -d '{"id":"1","agent":"helper","channel":"http","conversation":"c","sender":{"id":"me"},"text":"hello"}' \\
    "$LONGSHORE_URL/v1/messages?wait=60"
`;
}
