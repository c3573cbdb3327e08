import { cp, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { nameSchema } from "@longshore/shared";
import type { CommandContext } from "./command-context.ts";
import { UsageError } from "./errors.ts";

/** Kinds of agents that are begun from a template of the same name. */
export const agentTemplates = ["acp", "exec"] as const;
export type AgentTemplate = (typeof agentTemplates)[number];

const NEXT: Readonly<Record<AgentTemplate, string>> = { acp: "agent.ts", exec: "agent.sh" };

/**
 * `longshore agents new`: a directory with an agent that answers, its image and its definition.
 *
 * @throws UsageError where the name can't be an agent's, or the directory holds something
 */
export async function createAgent(
  { output }: CommandContext,
  path: string,
  { template }: { readonly template: AgentTemplate },
): Promise<void> {
  const directory = resolve(path);
  const name = nameSchema.safeParse(basename(directory));
  if (!name.success)
    throw new UsageError(`${JSON.stringify(basename(directory))}: ${name.error.issues[0]?.message}`);
  await mkdir(directory, { recursive: true });
  const [existing] = await readdir(directory);
  if (existing !== undefined)
    throw new UsageError(`${directory} is not empty: it has ${JSON.stringify(existing)}`);
  const from = fileURLToPath(new URL(`../templates/${template}`, import.meta.url));
  const files = (await readdir(from)).sort();
  for (const file of files) {
    await cp(join(from, file), join(directory, file));
    const content = await readFile(join(directory, file), "utf8");
    await writeFile(join(directory, file), content.replaceAll("{{name}}", name.data));
  }
  output.result({ name: name.data, directory, files }, () =>
    [
      `agent ${name.data} in ${directory}: ${files.join(", ")}`,
      `What it does is in ${NEXT[template]}. Talk to it: longshore agents try ${path}\n`,
    ].join("\n"),
  );
}
