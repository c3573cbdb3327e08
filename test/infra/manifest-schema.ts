import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDirectory, repositoryRoot } from "../../infra/setup/paths.ts";
import { capture } from "../../infra/setup/run-command.ts";
import type { Manifest } from "./kustomization.ts";

/** What `kubernetes-models` makes of a kind: generated from Kubernetes' own OpenAPI and from KEDA's types. */
type Model = new (data: object) => { validate(): void };

function moduleOf({ apiVersion, kind }: Manifest): string {
  const models = apiVersion.startsWith("keda.sh/") ? "@kubernetes-models/keda" : "kubernetes-models";
  return `${models}/${apiVersion}/${kind}`;
}

/**
 * Holds a manifest against the schema of its kind: required fields, types, formats, allowed values.
 *
 * @throws with every violation; also where there is no such kind.
 */
export async function validateManifest(manifest: Manifest): Promise<void> {
  const models = (await import(moduleOf(manifest))) as Record<string, Model>;
  const model = models[manifest.kind];
  if (model === undefined) throw new Error(`there is no ${manifest.apiVersion} ${manifest.kind}`);
  new model(manifest).validate();
}

/**
 * Finds fields that a kind does not have, which Kubernetes' schemas let pass and the API server drops or
 * refuses: as TypeScript's excess properties, against the types of the same models.
 *
 * @returns the compiler's complaints; empty where there is none.
 */
export async function unknownFields(manifests: readonly Manifest[]): Promise<string> {
  // Below the repository, so that the compiler finds the models; ignored by git.
  await mkdir(cacheDirectory, { recursive: true });
  const directory = await mkdtemp(join(cacheDirectory, "manifests-"));
  try {
    const lines = manifests.flatMap((manifest, index) => [
      `import type { I${manifest.kind} as Kind${index} } from ${JSON.stringify(moduleOf(manifest))};`,
      `export const manifest${index}: Kind${index} = ${JSON.stringify(manifest, undefined, 1)};`,
    ]);
    await writeFile(join(directory, "manifests.ts"), lines.join("\n"));
    const base = join(repositoryRoot, "tsconfig.base.json");
    await writeFile(join(directory, "tsconfig.json"), JSON.stringify({ extends: base, include: ["."] }));
    const compiler = join(repositoryRoot, "node_modules/.bin/tsc");
    const { status, output } = await capture([compiler, "--project", directory, "--pretty", "false"]);
    return status === 0 ? "" : output;
  } finally {
    await rm(directory, { recursive: true });
  }
}
