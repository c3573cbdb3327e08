import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { buildHelpers } from "./agent-image.ts";
import type { Command } from "./command.ts";
import { debianBase } from "./debian-base.ts";
import { installPrograms } from "./debian-packages.ts";
import { startDocker } from "./docker-engine.ts";
import { SetupError } from "./errors.ts";
import type { LocalAgent } from "./fleet-configuration.ts";
import { buildImage } from "./images.ts";
import { LocalFleet } from "./local-fleet.ts";
import { nodeBinary, repositoryRoot } from "./paths.ts";
import { engineAt, namedEngine } from "./provided-services.ts";
import { run } from "./run-command.ts";
import { ScratchDirectory } from "./scratch-directory.ts";

/** Files of an agent's directory that are for the fleet and for people, not for its image. */
const NOT_IN_IMAGE = new Set(["agent.yaml", "README.md", ".git", "Dockerfile"]);

/**
 * `longshore agents try DIRECTORY [TEXT]`: builds an agent's image (on a base of Debian's packages, where its
 * Dockerfile takes `BASE`), starts a fleet with it on this machine, and talks to it, or sends one text. Ends with the
 * talk, and leaves nothing but the image.
 */
export const tryAgent: Command = async (context) => {
  const [directory = "", text] = context.args;
  const agent = await readDefinition(directory);
  await installPrograms(["setpriv", "redis-server", "mmdebstrap", "musl-gcc", "sqlite3"], context);
  await using stack = new AsyncDisposableStack();
  const scratch = stack.use(await ScratchDirectory.create());
  const [base] = await Promise.all([
    debianBase(context),
    buildHelpers(context.signal),
    installPackages(directory, context.signal),
  ]);
  let engine = await namedEngine(process.env);
  if (engine === null) {
    await installPrograms(["dockerd"], context);
    const place = { directory: join(scratch.path, "docker"), signal: context.signal };
    engine = stack.use(await startDocker(place)).url;
  }
  context.report(`building the image of ${agent.name}`);
  const names = (await readdir(directory)).filter((name) => !NOT_IN_IMAGE.has(name)).sort();
  const image = await buildImage(engineAt(engine), base, {
    repository: `longshore-try/${agent.name}`,
    dockerfile: join(directory, "Dockerfile"),
    context: [{ directory, names }],
    ignore: { directory, names: [] },
    network: "host",
  });
  const fleet = stack.use(
    await LocalFleet.start(context, {
      sandbox: { runtime: "docker", engine, image, agent },
      directory: join(scratch.path, "fleet"),
      port: 0,
    }),
  );
  await fleet.startWorker();
  return await talk(fleet, agent.name, text, context.signal);
};

/** @throws SetupError where there is no definition of exactly one agent, or no Dockerfile */
async function readDefinition(directory: string): Promise<LocalAgent> {
  const file = join(directory, "agent.yaml");
  const [definitions] = await Promise.all(
    [file, join(directory, "Dockerfile")].map((path) =>
      readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
        const hint = "an agent's directory has a Dockerfile and an agent.yaml: see longshore agents new";
        throw new SetupError("SETUP_COMMAND_FAILED", `can't read ${path} (${error.code}); ${hint}`);
      }),
    ),
  );
  const parsed = parsedYaml(file, definitions ?? "");
  const agents = typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : [];
  const [entry] = agents;
  if (entry === undefined || agents.length !== 1 || typeof entry[1] !== "object")
    throw new SetupError(
      "SETUP_COMMAND_FAILED",
      `${file}: it has to have one name with its definition below`,
    );
  const [name, definition] = entry;
  return { name, definition: (definition ?? {}) as LocalAgent["definition"] };
}

/** @throws SetupError where it is no YAML */
function parsedYaml(file: string, text: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    throw new SetupError("SETUP_COMMAND_FAILED", `${file}: ${(error as Error).message.split("\n")[0]}`);
  }
}

/** What the image copies has to be there first. */
async function installPackages(directory: string, signal: AbortSignal): Promise<void> {
  const files = await readdir(directory);
  if (!files.includes("package.json")) return;
  await run(["npm", "install", "--omit=dev", "--no-audit", "--no-fund"], { cwd: directory, signal });
}

async function talk(
  fleet: LocalFleet,
  agent: string,
  text: string | undefined,
  signal: AbortSignal,
): Promise<number> {
  const what = text === undefined ? ["chat"] : ["send", text];
  const command = [join(repositoryRoot, "apps/cli/bin/longshore.mjs"), ...what, "--agent", agent];
  const child = spawn(nodeBinary, command, {
    env: { ...fleet.environment, LONGSHORE_URL: fleet.url, LONGSHORE_KEY: fleet.key },
    stdio: "inherit",
    signal,
  });
  const [status] = (await once(child, "exit")) as [number | null];
  return status ?? 1;
}
