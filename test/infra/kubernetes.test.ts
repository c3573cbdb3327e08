import { fileURLToPath } from "node:url";
import { type LoadedConfiguration, Metrics, parseConfiguration, serveHealth } from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { unreadVariables } from "./deployed-environment.ts";
import { type Manifest, readManifests, renderKustomization } from "./kustomization.ts";
import { unknownFields, validateManifest } from "./manifest-schema.ts";
import { exportedNames, namesIn } from "./metric-names.ts";
import { checkExpressions } from "./promtool.ts";

const kubernetes = fileURLToPath(new URL("../../infra/kubernetes", import.meta.url));

interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string };
}

interface Variable {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
}

interface Container {
  readonly name: string;
  readonly image: string;
  readonly envFrom?: readonly {
    readonly configMapRef?: { readonly name: string };
    readonly secretRef?: { readonly name: string };
  }[];
  readonly env?: readonly Variable[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly startupProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly resources?: { readonly requests?: object; readonly limits?: { readonly memory?: string } };
  readonly securityContext?: object;
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

interface Deployment extends Manifest {
  readonly spec: {
    readonly replicas?: number;
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly securityContext?: object;
        readonly initContainers?: readonly Container[];
        readonly containers: readonly Container[];
        readonly volumes: readonly {
          readonly name: string;
          readonly configMap?: { readonly name: string };
        }[];
      };
    };
  };
}

interface NetworkPolicy extends Manifest {
  readonly spec: {
    readonly podSelector: { readonly matchLabels?: Readonly<Record<string, string>> };
    readonly ingress?: readonly {
      readonly from?: readonly object[];
      readonly ports: readonly { port: string }[];
    }[];
  };
}

const manifests = renderKustomization(`${kubernetes}/overlays/docker`);
const secrets = readManifests(`${kubernetes}/secrets.example.yaml`);

function find<T extends Manifest>(kind: string, name: string, namespace?: string): T {
  const found = [...manifests, ...secrets].filter(
    (manifest) =>
      manifest.kind === kind &&
      manifest.metadata.name === name &&
      (namespace === undefined || manifest.metadata.namespace === namespace),
  );
  expect(found, `${kind} ${name}`).toHaveLength(1);
  return found[0] as T;
}

const deployment = (name: string) => find<Deployment>("Deployment", name);

function mainContainer(name: string): Container {
  const [container] = deployment(name).spec.template.spec.containers;
  if (container === undefined) throw new Error(`${name} has no container`);
  return container;
}

/** The variables of a deployment's main container, put together as the kubelet does. */
function variablesOf(name: string): Record<string, string> {
  const { namespace } = deployment(name).metadata;
  const container = mainContainer(name);
  const fromMaps = (container.envFrom ?? []).map(({ configMapRef, secretRef }) => {
    const map = configMapRef === undefined ? undefined : find("ConfigMap", configMapRef.name, namespace).data;
    const secret = secretRef === undefined ? undefined : find("Secret", secretRef.name, namespace).stringData;
    return { ...(map ?? {}), ...(secret ?? {}) };
  });
  const own = (container.env ?? []).map(({ name, value }) => [name, value ?? "a-pod-name-7d9f4-x2x9z"]);
  return Object.assign({}, ...fromMaps, Object.fromEntries(own));
}

function configurationOf(name: string): { text: string; loaded: LoadedConfiguration } {
  const { data } = find("ConfigMap", "longshore-configuration", deployment(name).metadata.namespace);
  const text = (data as Record<string, string>)["longshore.yaml"] ?? "";
  return {
    text,
    loaded: parseConfiguration(text, { path: "longshore.yaml", environment: variablesOf(name) }),
  };
}

const apps = ["dispatcher", "worker"] as const;

describe("the manifests", () => {
  it.each(
    [...manifests, ...secrets].map((manifest) => [manifest.kind, manifest.metadata.name, manifest] as const),
  )("%s %s fits its schema", async (_kind, _name, manifest) => {
    await validateManifest(manifest);
  });

  it("have no field that their kinds do not know", async () => {
    expect(await unknownFields([...manifests, ...secrets])).toBe("");
  });

  it("are refused by the same checks when they are wrong", async () => {
    const worker = structuredClone(deployment("worker")) as unknown as {
      apiVersion: string;
      kind: string;
      metadata: { name: string };
      spec: { template: { spec: Record<string, unknown> } };
    };
    worker.spec.template.spec.terminationGracePeriodSecond = 90;
    expect(await unknownFields([worker as unknown as Manifest])).toContain("terminationGracePeriodSecond");
    worker.spec.template.spec.terminationGracePeriodSeconds = "90s";
    await expect(validateManifest(worker as unknown as Manifest)).rejects.toThrow(
      /terminationGracePeriodSeconds/,
    );
  });

  it("contain no secret", () => {
    expect(manifests.filter(({ kind }) => kind === "Secret")).toEqual([]);
  });

  it("put every object into a namespace that they make, and secrets beside them", () => {
    const namespaces = manifests
      .filter(({ kind }) => kind === "Namespace")
      .map(({ metadata }) => metadata.name);
    const used = [...manifests, ...secrets].flatMap(({ kind, metadata }) =>
      kind === "Namespace" ? [] : [metadata.namespace],
    );
    expect([...new Set(used)].sort()).toEqual(namespaces.sort());
  });
});

describe.each(apps)("the %s", (app) => {
  const { spec } = deployment(app);
  const pod = spec.template.spec;
  const container = mainContainer(app);

  it("is given variables that it reads, with values that it allows", () => {
    const variables = variablesOf(app);
    expect(unreadVariables(variables, configurationOf(app).text)).toEqual([]);
    expect(variables.METRICS_HOST).toBe("0.0.0.0");
  });

  it("finds a valid configuration where it looks for it", () => {
    const path = variablesOf(app).LONGSHORE_CONFIG ?? "";
    const mount = container.volumeMounts?.find(({ mountPath }) => path === `${mountPath}/longshore.yaml`);
    const volume = pod.volumes.find(({ name }) => name === mount?.name);
    expect(volume?.configMap?.name).toBe("longshore-configuration");
    expect(configurationOf(app).loaded.configuration.routes).not.toEqual([]);
  });

  it("opens the ports that it listens on", () => {
    const { METRICS_PORT, PORT } = variablesOf(app);
    const expected = { metrics: Number(METRICS_PORT), ...(PORT === undefined ? {} : { http: Number(PORT) }) };
    expect(
      Object.fromEntries(container.ports?.map(({ name, containerPort }) => [name, containerPort]) ?? []),
    ).toEqual(expected);
  });

  it("is probed where it answers", async () => {
    const server = await serveHealth({
      host: "127.0.0.1",
      port: 0,
      registry: new Metrics().registry,
      readiness: async () => [],
    });
    try {
      const { startupProbe, livenessProbe, readinessProbe } = container;
      for (const probe of [startupProbe, livenessProbe, readinessProbe]) {
        expect(probe?.httpGet?.port).toBe("metrics");
        expect((await fetch(`${server.url}${probe?.httpGet?.path}`)).status).toBe(200);
      }
      expect(livenessProbe?.httpGet?.path).not.toBe(readinessProbe?.httpGet?.path);
    } finally {
      await server.close();
    }
  });

  it("is selected by its labels, and counted by nobody but its autoscaler", () => {
    expect(spec.template.metadata.labels).toEqual(spec.selector.matchLabels);
    expect(spec.replicas).toBeUndefined();
  });

  it("mounts only volumes that it has, and bounds the memory of every container", () => {
    const volumes = pod.volumes.map(({ name }) => name);
    for (const { name, volumeMounts = [], resources } of [...(pod.initContainers ?? []), ...pod.containers]) {
      expect(volumes, name).toEqual(expect.arrayContaining(volumeMounts.map((mount) => mount.name)));
      expect(resources?.limits?.memory, name).toBeDefined();
    }
  });

  it("has a network policy, and its namespace denies what none allows", () => {
    const { namespace } = deployment(app).metadata;
    expect(find<NetworkPolicy>("NetworkPolicy", app, namespace).spec.podSelector.matchLabels).toEqual(
      spec.selector.matchLabels,
    );
    expect(find<NetworkPolicy>("NetworkPolicy", "default-deny", namespace).spec).toEqual({
      podSelector: {},
      policyTypes: ["Ingress", "Egress"],
    });
  });
});

describe("the dispatcher alone", () => {
  it("keeps to the restricted pod security standard, which its namespace enforces", () => {
    const { labels } = find("Namespace", "longshore").metadata;
    expect(labels).toMatchObject({ "pod-security.kubernetes.io/enforce": "restricted" });
    const pod = deployment("dispatcher").spec.template.spec;
    expect(pod.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(pod.initContainers).toBeUndefined();
    for (const { securityContext } of pod.containers) {
      expect(securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
    }
  });

  it("is reached by its service, scaled and protected by its labels", () => {
    const labels = deployment("dispatcher").spec.selector.matchLabels;
    expect(find("Service", "dispatcher").spec).toMatchObject({
      selector: labels,
      ports: [{ targetPort: "http" }],
    });
    expect(find("PodDisruptionBudget", "dispatcher").spec).toMatchObject({
      selector: { matchLabels: labels },
    });
    expect(find("HorizontalPodAutoscaler", "dispatcher").spec).toMatchObject({
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "dispatcher" },
    });
  });
});

describe("the worker alone", () => {
  const pod = deployment("worker").spec.template.spec;
  const { configuration } = configurationOf("worker").loaded;
  const engine = pod.initContainers?.find(({ name }) => name === "engine");

  it("has more time to end than it takes to drain", () => {
    expect(pod.terminationGracePeriodSeconds * 1000).toBeGreaterThan(configuration.worker.drain);
  });

  it("is reached by nobody but what scrapes its metrics", () => {
    expect(find<NetworkPolicy>("NetworkPolicy", "worker", "longshore-workers").spec.ingress).toEqual([
      {
        from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "monitoring" } } }],
        ports: [{ port: "metrics" }],
      },
    ]);
  });

  it("is scaled on metrics that the fleet exports, by less than its places", async () => {
    const { spec } = find<Manifest & { spec: { scaleTargetRef: object; triggers: readonly Trigger[] } }>(
      "ScaledObject",
      "worker",
    );
    interface Trigger {
      readonly type: string;
      readonly metadata: { readonly query: string; readonly threshold: string };
    }
    expect(spec.scaleTargetRef).toEqual({ name: "worker" });
    expect(spec.triggers).toHaveLength(1);
    for (const { type, metadata } of spec.triggers) {
      expect(type).toBe("prometheus");
      expect(namesIn(metadata.query)).toContain("longshore_runnable_sessions");
      expect([...(await exportedNames())]).toEqual(expect.arrayContaining(namesIn(metadata.query)));
      expect(await checkExpressions([metadata.query])).toMatchObject({ accepted: true });
      expect(Number(metadata.threshold)).toBeLessThan(configuration.worker.places);
    }
  });

  it("reaches the engine at its side, which goes on beside it and sees the same run directory", () => {
    expect(engine).toMatchObject({ restartPolicy: "Always", startupProbe: expect.anything() });
    const { DOCKER_HOST, LONGSHORE_RUN_DIR } = variablesOf("worker");
    expect(engine).toMatchObject({ args: expect.arrayContaining([`--host=${DOCKER_HOST}`]) });
    const directories = [DOCKER_HOST?.replace(/^unix:\/\/(.*)\/[^/]+$/, "$1"), LONGSHORE_RUN_DIR];
    for (const directory of directories) {
      const [ours, theirs] = [mainContainer("worker"), engine].map((container) =>
        container?.volumeMounts?.find(({ mountPath }) => mountPath === directory),
      );
      expect(ours?.name).toBeDefined();
      expect(ours).toEqual(theirs);
    }
  });

  it("has every image of its agents before it starts", () => {
    const images = pod.initContainers?.find(({ name }) => name === "agent-images");
    const pulled = images?.env?.find(({ name }) => name === "AGENT_IMAGES")?.value?.split(" ");
    expect(pulled).toEqual(Object.values(configuration.agents).map(({ image }) => image));
  });
});
