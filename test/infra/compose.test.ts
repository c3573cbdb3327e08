import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { duration, parseConfiguration } from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { repositoryRoot } from "../../infra/setup/paths.ts";
import { unreadVariables } from "./deployed-environment.ts";

const infra = join(repositoryRoot, "infra");
const read = (name: string): string => readFileSync(join(infra, name), "utf8");

type Mount = string | { readonly type: string; readonly source: string; readonly target: string };

interface Service {
  readonly image: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly environment?: Readonly<Record<string, string>>;
  readonly command?: readonly string[];
  readonly volumes?: readonly Mount[];
  readonly ports?: readonly string[];
  readonly networks?: readonly string[];
  readonly network_mode?: string;
  readonly depends_on?: readonly string[] | Readonly<Record<string, { readonly condition: string }>>;
  readonly stop_grace_period?: string;
  readonly user?: string;
  readonly cap_drop?: readonly string[];
  readonly cap_add?: readonly string[];
  readonly hostname?: string;
  readonly container_name?: string;
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean }>>;
  readonly volumes: Readonly<Record<string, object>>;
}

const compose = parse(read("compose.yaml"), { merge: true }) as Compose;
const service = (name: string): Service => {
  const found = compose.services[name];
  if (found === undefined) throw new Error(`no service ${name}`);
  return found;
};
const mountOf = (name: string, target: string): Mount | undefined =>
  service(name).volumes?.find((mount) =>
    typeof mount === "string" ? mount.split(":")[1] === target : mount.target === target,
  );

/** What a user who follows compose.example.env has in `.env`. */
const filledIn: Record<string, string> = {
  S3_ACCESS_KEY: "longshore",
  S3_SECRET_KEY: "not-a-secret",
  LONGSHORE_KEY_HASH: `sha256:${"0".repeat(64)}`,
  LONGSHORE_OPERATOR_KEY_HASH: `sha256:${"1".repeat(64)}`,
  GRAFANA_PASSWORD: "not-a-secret",
};

/** A service's variables, with `${NAME:?…}` and `${NAME:-default}` put in as Compose does. */
function variablesOf(name: string): Record<string, string> {
  const entries = Object.entries(service(name).environment ?? {}).map(([variable, value]) => {
    expect(typeof value, `${name}: ${variable}`).toBe("string");
    return [
      variable,
      value.replaceAll(/\$\{(\w+)(?::([?-])([^}]*))?\}/g, (_all, wanted, kind, fallback) => {
        const given = filledIn[wanted] ?? (kind === "-" ? fallback : undefined);
        if (given === undefined) throw new Error(`${wanted} is in nobody's .env`);
        return given;
      }),
    ];
  });
  return Object.fromEntries(entries) as Record<string, string>;
}

const configurationText = read("longshore.yaml");
const configurationFor = (name: string) =>
  parseConfiguration(configurationText, { path: "longshore.yaml", environment: variablesOf(name) })
    .configuration;

describe("compose.yaml", () => {
  it("asks for no secret that its example does not name, and holds none", () => {
    const asked = [...read("compose.yaml").matchAll(/\$\{(\w+):\?/g)].map(([, name]) => name ?? "");
    const example = read("compose.example.env").matchAll(/^(\w+)=/gm);
    expect([...new Set(asked)].sort()).toEqual([...example].map(([, name]) => name ?? "").sort());
    expect([...new Set(asked)].sort()).toEqual(Object.keys(filledIn).sort());
  });

  it.each(["dispatcher", "worker"])(
    "gives the %s variables that it reads, and a valid configuration",
    (name) => {
      expect(unreadVariables(variablesOf(name), configurationText)).toEqual([]);
      expect(mountOf(name, variablesOf(name).LONGSHORE_CONFIG ?? "")).toMatch(/^\.\/longshore\.yaml:.*:ro$/);
      expect(configurationFor(name).routes).not.toEqual([]);
    },
  );

  it("builds the fleet's images and those of its agents from files that exist", () => {
    const built = Object.values(compose.services).filter(({ build }) => build !== undefined);
    for (const { build } of built) {
      expect(build?.context).toBe("..");
      expect(existsSync(join(repositoryRoot, build?.dockerfile ?? "")), build?.dockerfile).toBe(true);
    }
    const images = built.map(({ image }) => image);
    const ofAgents = Object.values(configurationFor("worker").agents).map(({ image }) => image);
    expect(images).toEqual(
      expect.arrayContaining([service("dispatcher").image, service("worker").image, ...ofAgents]),
    );
  });

  it("names only services, networks and volumes that it has", () => {
    const services = Object.keys(compose.services);
    const networks = Object.keys(compose.networks);
    for (const [name, { depends_on = {}, networks: joined = [], volumes = [] }] of Object.entries(
      compose.services,
    )) {
      const needed = Array.isArray(depends_on) ? depends_on : Object.keys(depends_on);
      expect(services, name).toEqual(expect.arrayContaining(needed));
      expect(networks, name).toEqual(expect.arrayContaining([...joined]));
      for (const mount of volumes) {
        const source = typeof mount === "string" ? (mount.split(":")[0] ?? "") : mount.source;
        if (source.startsWith("./")) expect(existsSync(join(infra, source)), source).toBe(true);
        else if (!source.startsWith("/")) expect(Object.keys(compose.volumes), name).toContain(source);
      }
    }
  });

  it("shows ports on loopback only, and those that the processes listen on", () => {
    const shown = Object.values(compose.services).flatMap(({ ports = [] }) => ports);
    expect(shown.filter((port) => !port.startsWith("127.0.0.1:"))).toEqual([]);
    const { PORT, HOST, METRICS_HOST } = variablesOf("dispatcher");
    expect(service("dispatcher").ports).toEqual([`127.0.0.1:${PORT}:${PORT}`]);
    expect([HOST, METRICS_HOST, variablesOf("worker").METRICS_HOST]).toEqual([
      "0.0.0.0",
      "0.0.0.0",
      "0.0.0.0",
    ]);
  });

  it("gives the engine to workers alone, who have no way out and few capabilities", () => {
    const withEngine = Object.keys(compose.services).filter(
      (name) => mountOf(name, "/var/run/docker.sock") !== undefined,
    );
    expect(withEngine).toEqual(["worker"]);
    expect(service("worker").networks).toEqual(["data"]);
    expect(compose.networks.data?.internal).toBe(true);
    expect(service("worker").cap_drop).toEqual(["ALL"]);
    expect(service("worker").cap_add).toEqual(["CHOWN", "DAC_OVERRIDE", "FOWNER"]);
    expect(service("dispatcher").cap_drop).toEqual(["ALL"]);
    expect(service("dispatcher").cap_add).toBeUndefined();
  });

  it("lets workers be many, of one host, with a run directory that has one path", () => {
    const worker = service("worker");
    expect(worker.container_name).toBeUndefined();
    expect(worker.ports).toBeUndefined();
    expect(worker.hostname).toBeDefined();
    const { LONGSHORE_RUN_DIR = "" } = variablesOf("worker");
    expect(mountOf("worker", LONGSHORE_RUN_DIR)).toMatchObject({ type: "bind", source: LONGSHORE_RUN_DIR });
  });

  it("gives a worker more time to end than it takes to drain", () => {
    const grace = duration({ min: "1s", max: "1h" }).parse(service("worker").stop_grace_period);
    expect(grace).toBeGreaterThan(configurationFor("worker").worker.drain);
  });

  it("has a Redis that loses and evicts nothing", () => {
    expect(service("redis").command?.join(" ")).toMatch(/--appendonly yes.*--maxmemory-policy noeviction/);
  });

  it("lets Prometheus find the processes, and Grafana find Prometheus and the dashboards", () => {
    const { scrape_configs } = parse(read("prometheus/prometheus.yaml")) as {
      scrape_configs: { job_name: string; dns_sd_configs: { names: string[]; port: number }[] }[];
    };
    expect(scrape_configs.map(({ job_name }) => job_name)).toEqual(["dispatcher", "worker"]);
    for (const { job_name, dns_sd_configs } of scrape_configs) {
      const port = Number(variablesOf(job_name).METRICS_PORT);
      expect(dns_sd_configs).toMatchObject([{ names: [job_name], type: "A", port }]);
      expect(service("prometheus").networks).toEqual(expect.arrayContaining(["data"]));
      expect(service(job_name).networks).toEqual(expect.arrayContaining(["data"]));
    }
    expect(service("prometheus").command?.[0]).toBe("--config.file=/etc/prometheus/prometheus.yaml");

    const { datasources } = parse(read("grafana/provisioning/datasources/prometheus.yaml")) as {
      datasources: { url: string }[];
    };
    expect(datasources.map(({ url }) => url)).toEqual(["http://prometheus:9090"]);
    const { providers } = parse(read("grafana/provisioning/dashboards/longshore.yaml")) as {
      providers: { options: { path: string } }[];
    };
    for (const { options } of providers)
      expect(mountOf("grafana", options.path)).toMatch(/^\.\/grafana\/dashboards:/);
    expect(mountOf("grafana", "/etc/grafana/provisioning")).toMatch(/^\.\/grafana\/provisioning:/);
  });
});
