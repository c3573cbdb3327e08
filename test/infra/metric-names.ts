import { Metrics } from "@longshore/shared";

/** Prometheus' own, made for each target. */
const MADE_BY_PROMETHEUS = ["up", "ALERTS"];

/** The names of the series that the fleet's processes export: a histogram's are three. */
export async function exportedNames(): Promise<Set<string>> {
  const metrics = await new Metrics().registry.getMetricsAsJSON();
  const names = metrics.flatMap(({ name, type }) =>
    String(type) === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  );
  return new Set([...names, ...MADE_BY_PROMETHEUS]);
}

/** The metrics that a PromQL expression names. */
export function namesIn(expression: string): string[] {
  const withoutStrings = expression.replaceAll(/"[^"]*"/g, '""');
  return [...new Set(withoutStrings.match(/\b(?:longshore_\w+|bullmq_\w+|up|ALERTS)\b/g) ?? [])];
}
