import { access } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** What does for a worker what Node.js has no call for: `init/longshore-host.c` says what. Where the build leaves it. */
export const HOST_PROGRAM = fileURLToPath(new URL("../dist/longshore-host", import.meta.url));

/** Why it can't be used, with what to do; undefined where it can. */
export async function hostProgramProblem(): Promise<string | undefined> {
  return await access(HOST_PROGRAM).then(
    () => undefined,
    () => `${HOST_PROGRAM} is missing: build it by "npm run build --workspace packages/sandbox" (needs gcc)`,
  );
}
