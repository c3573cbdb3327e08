/**
 * Makes requests of so many bytes (an argument, or the text of a message) to the provider, one after the other on one connection, and says the median of the times to the
 * first byte of the answer, in ms.
 */
import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";

const WARM_UP = 10;
const REQUESTS = 100;
const bytes = Number(process.argv[1] ?? JSON.parse(readFileSync(0, "utf8")).text);
const { Agent, request } = process.env.ANTHROPIC_BASE_URL.startsWith("https:") ? https : http;
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const body = JSON.stringify({
  ...{ model: "claude-sonnet-4-5", max_tokens: 100, stream: true },
  messages: [{ role: "user", content: "x".repeat(bytes) }],
});
const options = {
  ...{ agent, method: "POST" },
  headers: { "x-api-key": process.env.ANTHROPIC_API_KEY, "content-type": "application/json" },
};
const times = [];
for (let count = 0; count < WARM_UP + REQUESTS; count++) {
  const start = performance.now();
  await new Promise((resolve, reject) => {
    const call = request(process.env.ANTHROPIC_BASE_URL.concat("/v1/messages"), options, (response) => {
      response.once("data", () => times.push(performance.now() - start));
      response.on("end", resolve);
      if (response.statusCode !== 200) reject(new Error(String(response.statusCode)));
    });
    call.on("error", reject);
    call.end(body);
  });
}
const measured = times.slice(WARM_UP).sort((a, b) => a - b);
console.log(measured[measured.length / 2]);
agent.destroy();
