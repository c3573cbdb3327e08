import { readdir } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { engineAddress } from "./platforms.ts";

const CGROUP_ROOT = "/sys/fs/cgroup";

/**
 * What is on the host of a sandbox, whichever runtime it was: containers, control groups and records whose
 * name or label has the text in it. Slots are not its own and are not looked for.
 */
export async function leftovers(world: { readonly runDirectory: string }, text: string): Promise<string[]> {
  const records = await namesBelow(join(world.runDirectory, "workers"), 3);
  const groups = await namesBelow(CGROUP_ROOT, 3);
  return [
    ...records.filter((path) => path.includes("/sandboxes/") && path.includes(text)),
    ...groups.filter((path) => path.includes("/longshore/") && path.includes(text)),
    ...(await containers(text)),
  ];
}

async function namesBelow(directory: string, depth: number): Promise<string[]> {
  if (depth === 0) return [];
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  const below = await Promise.all(
    entries.map(async (entry) => {
      const path = join(directory, entry.name);
      return [path, ...(entry.isDirectory() ? await namesBelow(path, depth - 1) : [])];
    }),
  );
  return below.flat();
}

interface ListedContainer {
  readonly Names: readonly string[];
  readonly State: string;
  readonly Labels: Readonly<Record<string, string>>;
}

/** Containers with the text in a name or label whose processes run. */
export async function runningContainers(text: string): Promise<string[]> {
  return (await listContainers(text))
    .filter(({ State }) => State === "running")
    .map(({ Names }) => Names.join());
}

async function containers(text: string): Promise<string[]> {
  return (await listContainers(text)).map(({ Names }) => `container ${Names.join(" ")}`);
}

async function listContainers(text: string): Promise<ListedContainer[]> {
  const url = new URL(engineAddress);
  const target =
    url.protocol === "unix:" ? { socketPath: url.pathname } : { host: url.hostname, port: url.port };
  const answer = Promise.withResolvers<string>();
  request({ ...target, path: "/containers/json?all=1", headers: { Host: "docker" } }, (response) => {
    let body = "";
    response.setEncoding("utf8").on("data", (part: string) => {
      body += part;
    });
    response.on("end", () => answer.resolve(body));
  })
    .on("error", answer.reject)
    .end();
  return (JSON.parse(await answer.promise) as ListedContainer[]).filter(({ Names, Labels }) =>
    [...Names, ...Object.values(Labels)].some((word) => word.includes(text)),
  );
}
