import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parse, parseAllDocuments } from "yaml";

/** A Kubernetes object as a manifest says it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly [field: string]: unknown;
}

interface Kustomization {
  readonly namespace?: string;
  readonly resources?: readonly string[];
  readonly configMapGenerator?: readonly { readonly name: string; readonly files: readonly string[] }[];
  readonly generatorOptions?: { readonly disableNameSuffixHash: true };
  readonly patches?: readonly {
    readonly path: string;
    readonly target: { readonly kind: string; readonly name: string };
  }[];
}

const KNOWN_FIELDS = [
  ...["apiVersion", "kind", "namespace", "resources"],
  ...["configMapGenerator", "generatorOptions", "patches"],
];
const WITHOUT_NAMESPACE = ["Namespace"];

/**
 * What `kubectl kustomize DIRECTORY` prints, for the part of Kustomize that `infra/kubernetes` uses: the tests
 * need neither kubectl nor a cluster.
 *
 * @throws on everything that it does not know, so that it never shows what Kustomize would not.
 */
export function renderKustomization(directory: string): Manifest[] {
  const kustomization = parse(readFileSync(join(directory, "kustomization.yaml"), "utf8")) as Kustomization;
  for (const field of Object.keys(kustomization)) {
    if (!KNOWN_FIELDS.includes(field)) throw new Error(`${directory}: ${field} is not known here`);
  }
  const manifests = (kustomization.resources ?? []).flatMap((resource) =>
    resource.endsWith(".yaml")
      ? readManifests(join(directory, resource))
      : renderKustomization(join(directory, resource)),
  );
  for (const { name, files } of kustomization.configMapGenerator ?? []) {
    if (kustomization.generatorOptions?.disableNameSuffixHash !== true) {
      throw new Error(`${directory}: names with a hash are not known here`);
    }
    const data = Object.fromEntries(
      files.map((file) => [basename(file), readFileSync(join(directory, file), "utf8")]),
    );
    manifests.push({ apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data });
  }
  for (const { path, target } of kustomization.patches ?? []) {
    const targets = manifests.filter(
      ({ kind, metadata }) => kind === target.kind && metadata.name === target.name,
    );
    if (targets.length !== 1) throw new Error(`${directory}: ${path} means ${targets.length} objects`);
    applyPatch(targets[0] as Manifest, parse(readFileSync(join(directory, path), "utf8")) as PatchStep[]);
  }
  if (kustomization.namespace !== undefined) setNamespace(manifests, kustomization.namespace);
  return manifests;
}

export function readManifests(file: string): Manifest[] {
  return parseAllDocuments(readFileSync(file, "utf8")).map((document) => document.toJS() as Manifest);
}

function setNamespace(manifests: readonly Manifest[], namespace: string): void {
  for (const { kind, metadata } of manifests) {
    if (!WITHOUT_NAMESPACE.includes(kind)) {
      metadata.namespace = namespace;
    } else if (metadata.name !== namespace) {
      throw new Error(`Kustomize would rename ${kind} ${metadata.name} to ${namespace}`);
    }
  }
}

interface PatchStep {
  readonly op: string;
  readonly path: string;
  readonly value: unknown;
}

/** RFC 6902, of which only `add` is used: the other operations can be lost when the base changes. */
function applyPatch(manifest: Manifest, steps: readonly PatchStep[]): void {
  for (const { op, path, value } of steps) {
    if (op !== "add") throw new Error(`the patch operation ${op} is not known here`);
    const parts = path.split("/").slice(1);
    const last = parts.pop() ?? "";
    let parent: unknown = manifest;
    for (const part of parts) parent = (parent as Record<string, unknown> | undefined)?.[part];
    if (Array.isArray(parent) && last === "-") {
      parent.push(value);
    } else if (parent !== null && typeof parent === "object" && !Array.isArray(parent) && !(last in parent)) {
      (parent as Record<string, unknown>)[last] = value;
    } else {
      throw new Error(`nothing can be added at ${path}`);
    }
  }
}
