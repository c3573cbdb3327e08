import { join } from "node:path";
import type { CommandContext } from "./command.ts";
import { installPrograms } from "./debian-packages.ts";
import { startPodman } from "./podman-engine.ts";
import { ScratchDirectory } from "./scratch-directory.ts";
import { test } from "./test.ts";

/** What speaks to an engine: the sandboxes, and fleets that serve sessions in them. */
const SUITES = [
  "test/conformance/sandbox",
  ...["mailbox", "tools", "warm"].map((name) => `test/e2e/worker/${name}-docker.test.ts`),
];

/** `npm run test:podman [-- VITEST-ARGUMENT...]`: the tests of sandboxes with Podman as the engine. @default the `SUITES` */
export async function podman(context: CommandContext): Promise<number> {
  await installPrograms(["podman"], context);
  await using scratch = await ScratchDirectory.create();
  await using engine = await startPodman({
    directory: join(scratch.path, "podman"),
    signal: context.signal,
  });
  process.env.DOCKER_HOST = engine.url;
  return await test({ ...context, args: context.args.length > 0 ? context.args : SUITES });
}
