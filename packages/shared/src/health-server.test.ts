import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type HealthServer, serveHealth } from "./health-server.ts";
import { Metrics } from "./metrics.ts";

let server: HealthServer;
let readiness: () => Promise<readonly string[]>;

beforeEach(async () => {
  readiness = async () => [];
  const { registry } = new Metrics();
  server = await serveHealth({ host: "127.0.0.1", port: 0, registry, readiness: () => readiness() });
});
afterEach(() => server.close());

describe("serveHealth", () => {
  it("answers while the process does", async () => {
    const response = await fetch(`${server.url}/healthz`);
    expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
  });

  it("says whether the process is ready, and why not", async () => {
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    readiness = async () => ["Redis does not answer"];
    const response = await fetch(`${server.url}/readyz`);
    expect([response.status, await response.json()]).toEqual([
      503,
      { ready: false, reasons: ["Redis does not answer"] },
    ]);
  });

  it("is not ready where the check fails, and does not repeat why", async () => {
    readiness = () => Promise.reject(new Error("redis://user:hunter2@host"));
    const response = await fetch(`${server.url}/readyz`);
    expect(response.status).toBe(503);
    expect(await response.text()).not.toContain("hunter2");
  });

  it("gives metrics, with those that alerts rest on present from the start", async () => {
    const response = await fetch(`${server.url}/metrics`);
    expect(response.headers.get("content-type")).toContain("text/plain");
    expect(await response.text()).toContain("longshore_fenced_total 0");
  });

  it("refuses other paths and methods", async () => {
    expect((await fetch(`${server.url}/`)).status).toBe(404);
    expect((await fetch(`${server.url}/healthz`, { method: "POST" })).status).toBe(405);
  });

  it("fails to start where the port is taken", async () => {
    const port = Number(new URL(server.url).port);
    await expect(
      serveHealth({ host: "127.0.0.1", port, registry: new Metrics().registry, readiness: async () => [] }),
    ).rejects.toMatchObject({ code: "EADDRINUSE" });
  });
});
