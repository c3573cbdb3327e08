import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { waitUntil } from "../../infra/setup/wait-until.ts";
import { Fleet } from "../support/fleet.ts";
import { panelQueries, readDashboard } from "./dashboard.ts";
import { namesIn } from "./metric-names.ts";
import { type PrometheusServer, startPrometheus } from "./prometheus-server.ts";

const dashboard = readDashboard();
/** With a scrape each second. */
const queries = panelQueries(dashboard, "30s");

describe("the dashboard", () => {
  it("has panels of its own ids that do not overlap", () => {
    const ids = dashboard.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)}:${y + Math.floor(cell / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.x + gridPos.w))).toBeLessThanOrEqual(24);
  });

  it("chooses only what it can put in", () => {
    const variables = dashboard.templating.list.map(({ name }) => name);
    const used = [...JSON.stringify(dashboard.panels).matchAll(/\$\{?(\w+)\}?/g)].map(
      ([, name]) => name ?? "",
    );
    expect(new Set(used)).toEqual(new Set([...variables, "__rate_interval"]));
  });

  describe("on a fleet that runs, scraped by Prometheus", () => {
    const parts = new AsyncDisposableStack();
    let prometheus: PrometheusServer;

    beforeAll(async () => {
      const fleet = parts.use(
        await Fleet.start({
          agent: { retry: { attempts: 1 } },
          agents: {
            ready: { warm: 1 },
            online: { egress: { allow: ["example.com:80"] } },
          },
        }),
      );
      const { process, api } = await fleet.startDispatcher();
      const worker = await fleet.startWorker();
      const targets = await Promise.all(
        [process, worker].map(async (app) => {
          const { metricsUrl } = await app.line(({ msg }) => msg.endsWith(" ready"));
          return new URL(metricsUrl as string).host;
        }),
      );
      const [dispatcher = "", ofWorker = ""] = targets;
      prometheus = parts.use(
        await startPrometheus(join(fleet.directory, "prometheus"), {
          dispatcher: [dispatcher],
          worker: [ofWorker],
        }),
      );
      expect(await api.ask("c1", "m1", "$ echo one > file")).toMatchObject({ state: "answered" });
      expect(await api.ask("c1", "m2", "$ cat file")).toMatchObject({ state: "answered" });
      expect(await api.ask("c2", "m3", "!error on purpose")).toMatchObject({ state: "dead" });
      await expect(api.send("c5", "m6", "hello", { agent: "nobody" })).rejects.toThrow("UNKNOWN_AGENT");
      // Refused by the proxy.
      const out = "$ node -e 'fetch(`http://127.0.0.2/`).catch(() => console.log(`refused`))'";
      expect(await api.ask("c4", "m5", out, { agent: "online" })).toMatchObject({ state: "answered" });
      // An activation to see, and a message that waits.
      await api.send("c3", "m4", "$ sleep 1000");
    });
    afterAll(() => parts.disposeAsync());

    it.each(queries.map(({ panel, expression }) => [panel, expression]))(
      "%s has data: %s",
      async (_, expression) => {
        await waitUntil(async () => (await prometheus.query(expression)).length > 0, {
          what: "data",
          timeoutMs: 30_000,
        });
      },
    );

    it("shows every metric that the fleet exports", async () => {
      const exported = await prometheus.query('group by (__name__) ({__name__=~"longshore_.*|bullmq_.*"})');
      const names = exported.map(({ metric }) => metric.__name__ ?? "");
      // A histogram is shown by its buckets.
      const buckets = new Set(names.filter((name) => name.endsWith("_bucket")));
      const isPartOfHistogram = (name: string) => buckets.has(name.replace(/_(sum|count)$/, "_bucket"));
      const shown = new Set(queries.flatMap(({ expression }) => namesIn(expression)));
      const missing = names.filter(
        (name) => !shown.has(name) && !(isPartOfHistogram(name) && !buckets.has(name)),
      );
      expect(missing).toEqual([]);
    });

    it("raises the alert for the message that was given up on", async () => {
      await waitUntil(
        async () => (await prometheus.query('ALERTS{alertname="LongshoreDeadLetters"}')).length > 0,
        { what: "the alert", timeoutMs: 30_000 },
      );
    });
  });
});
