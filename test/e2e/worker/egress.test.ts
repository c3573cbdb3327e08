import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

const SECRET = "sk-that-no-agent-may-see";

it("an agent gets out through the worker's proxy only, without a credential of its own", async () => {
  await using fleet = await Fleet.start({
    agent: {
      env: { API_KEY: "placeholder" },
      egress: {
        allow: ["metadata.example.com:80"],
        credentials: [
          {
            upstream: "https://api.invalid.example",
            as: "/api",
            header: "x-api-key",
            secret: SECRET,
            variable: "API_URL",
          },
        ],
      },
    },
  });
  const { api } = await fleet.startDispatcher();
  const worker = await fleet.startWorker();
  const script = `
    const statuses = [];
    for (const url of ["http://127.0.0.2/", "http://metadata.example.com:81/", process.env.API_URL + "/x"]) {
      const asked = fetch(url, { headers: { "x-api-key": process.env.API_KEY } });
      statuses.push(await asked.then(({ status }) => status, () => "refused"));
    }
    console.log(JSON.stringify({ statuses, url: process.env.API_URL }));`;
  const answer = await api.ask("c", "1", `$ env; cat <<'END' > ask.mjs\n${script}\nEND\nnode ask.mjs`);
  const text = answer.replies?.map((reply) => reply.text).join("") ?? "";
  // The last one's name leads nowhere.
  expect(text).toContain('{"statuses":["refused","refused",502],"url":"http://127.0.0.1:3128/api"}');
  expect(text).toContain("HTTPS_PROXY=http://127.0.0.1:3128\n");
  expect(text).not.toContain(SECRET);
  const { metricsUrl } = await worker.line(({ msg }) => msg === "worker ready");
  const metrics = await (await fetch(`${metricsUrl}/metrics`)).text();
  expect(metrics).toContain('longshore_egress_requests_total{decision="denied_host"} 2');
  expect(metrics).toContain('longshore_egress_requests_total{decision="unreachable"} 1');
  expect(
    await worker.line(({ msg, decision }) => msg === "egress" && decision === "unreachable"),
  ).toMatchObject({
    host: "api.invalid.example",
    port: 443,
  });
  expect(JSON.stringify(worker.lines) + worker.stderr).not.toContain(SECRET);
});
