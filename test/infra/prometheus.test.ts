import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { exportedNames, namesIn } from "./metric-names.ts";
import { promtool } from "./promtool.ts";

const prometheus = fileURLToPath(new URL("../../infra/prometheus", import.meta.url));
const read = async (name: string): Promise<string> => await readFile(join(prometheus, name), "utf8");

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly { readonly alert: string; readonly expr: string }[];
  }[];
}

interface RuleTests {
  readonly tests: readonly {
    readonly alert_rule_test?: readonly {
      readonly alertname: string;
      readonly exp_alerts: readonly unknown[];
    }[];
  }[];
}

describe("Prometheus", () => {
  let directory: string;
  let rules: Rules;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "longshore-rules-"));
    rules = parse(await read("rules.yaml")) as Rules;
  });
  afterAll(async () => {
    await rm(directory, { recursive: true });
  });
  const alerts = () => rules.groups.flatMap((group) => group.rules);

  it("accepts the configuration and the rules", async () => {
    expect(await promtool("check", "config", join(prometheus, "prometheus.yaml"))).toMatchObject({
      accepted: true,
    });
  });

  it("accepts the configuration for Kubernetes, but for the discovery that Debian's build lacks", async () => {
    const configuration = parse(await read("kubernetes.yaml")) as {
      rule_files: string[];
      scrape_configs: Record<string, unknown>[];
    };
    for (const scrape of configuration.scrape_configs) {
      expect(scrape.kubernetes_sd_configs).toEqual([
        { role: "pod", namespaces: { names: ["longshore", "longshore-workers"] } },
      ]);
      delete scrape.kubernetes_sd_configs;
    }
    configuration.rule_files = configuration.rule_files.map((file) => join(prometheus, file));
    const file = join(directory, "kubernetes.yaml");
    await writeFile(file, stringify(configuration));
    expect(await promtool("check", "config", file)).toMatchObject({ accepted: true });
  });

  it("raises each alert when it should, and none for a fleet at work", async () => {
    const { accepted, output } = await promtool("test", "rules", join(prometheus, "rules.test.yaml"));
    expect(accepted, output).toBe(true);
  });

  it("has tests that fail when a rule is broken", async () => {
    const broken = rules.groups.map((group) => ({
      ...group,
      rules: group.rules.map((rule) => ({ ...rule, expr: `(${rule.expr}) and on() vector(0) == 1` })),
    }));
    await writeFile(join(directory, "rules.yaml"), stringify({ groups: broken }));
    await writeFile(join(directory, "rules.test.yaml"), await read("rules.test.yaml"));
    const { accepted, output } = await promtool("test", "rules", join(directory, "rules.test.yaml"));
    expect(accepted).toBe(false);
    for (const { alert } of alerts()) expect(output).toContain(alert);
  });

  it("has a test in which each alert fires", async () => {
    const { tests } = parse(await read("rules.test.yaml"), { merge: true }) as RuleTests;
    const fired = tests.flatMap((test) =>
      (test.alert_rule_test ?? [])
        .filter(({ exp_alerts }) => exp_alerts.length > 0)
        .map(({ alertname }) => alertname),
    );
    expect([...new Set(fired)].sort()).toEqual(
      alerts()
        .map(({ alert }) => alert)
        .sort(),
    );
  });

  it("asks only for metrics that the fleet exports", async () => {
    const names = await exportedNames();
    for (const { alert, expr } of alerts()) {
      const asked = namesIn(expr);
      expect(asked, alert).not.toEqual([]);
      expect(
        asked.filter((name) => !names.has(name)),
        alert,
      ).toEqual([]);
    }
  });
});
