import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { requireProgram } from "../../infra/setup/debian-packages.ts";
import { onFreePorts } from "../../infra/setup/free-port.ts";
import { launch } from "../../infra/setup/launch.ts";
import { repositoryRoot } from "../../infra/setup/paths.ts";
import { findProgram } from "../../infra/setup/programs.ts";

export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [time: number, value: string];
}

/** A private Prometheus with the fleet's own rules. */
export interface PrometheusServer extends AsyncDisposable {
  /** The samples of an instant query now. Rejects where Prometheus refuses the expression. */
  query(expression: string): Promise<readonly Sample[]>;
}

/**
 * Starts Debian's Prometheus, which scrapes each second.
 *
 * @param directory For its data and log; the caller's to remove.
 * @param targets `host:port` by job.
 */
export async function startPrometheus(
  directory: string,
  targets: Readonly<Record<string, readonly string[]>>,
): Promise<PrometheusServer> {
  // Debian's package `prometheus` brings both.
  requireProgram("promtool");
  const program = findProgram("prometheus") ?? "prometheus";
  await mkdir(directory, { recursive: true });
  const configuration = {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: [join(repositoryRoot, "infra/prometheus/rules.yaml")],
    scrape_configs: Object.entries(targets).map(([job, addresses]) => ({
      job_name: job,
      static_configs: [{ targets: addresses }],
    })),
  };
  const file = join(directory, "prometheus.yaml");
  await writeFile(file, stringify(configuration));
  return await onFreePorts(1, async (port = 0) => {
    const url = `http://127.0.0.1:${port}`;
    const server = await launch({
      name: "prometheus",
      command: [
        program,
        `--config.file=${file}`,
        `--storage.tsdb.path=${join(directory, "data")}`,
        `--web.listen-address=127.0.0.1:${port}`,
      ],
      logFile: join(directory, "prometheus.log"),
      answers: async () => (await fetch(`${url}/-/ready`)).ok,
      startTimeoutMs: 30_000,
    });
    return {
      query: async (expression) => {
        const response = await fetch(`${url}/api/v1/query?${new URLSearchParams({ query: expression })}`);
        const answer = (await response.json()) as { error?: string; data?: { result: Sample[] } };
        if (answer.data === undefined) throw new Error(`${expression}: ${answer.error}`);
        return answer.data.result;
      },
      [Symbol.asyncDispose]: () => server.stop(),
    };
  });
}
