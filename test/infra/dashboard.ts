import { readFileSync } from "node:fs";
import { join } from "node:path";
import { repositoryRoot } from "../../infra/setup/paths.ts";

/** A query of a panel, as Grafana would send it. */
export interface PanelQuery {
  readonly panel: string;
  readonly expression: string;
}

export interface Dashboard {
  readonly uid: string;
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] };
  readonly panels: readonly {
    readonly id: number;
    readonly type: string;
    readonly title: string;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly targets?: readonly { readonly expr: string }[];
  }[];
}

export function readDashboard(): Dashboard {
  const file = join(repositoryRoot, "infra/grafana/dashboards/longshore.json");
  return JSON.parse(readFileSync(file, "utf8")) as Dashboard;
}

/**
 * The queries of all panels, with every agent chosen.
 *
 * @param rateInterval What Grafana puts in for `$__rate_interval`: at least four scrapes, as `1m`.
 */
export function panelQueries(dashboard: Dashboard, rateInterval: string): PanelQuery[] {
  return dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({
      panel: title,
      expression: expr.replaceAll("$__rate_interval", rateInterval).replaceAll("$agent", ".*"),
    })),
  );
}
