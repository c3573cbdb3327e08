// What anybody may write who knows nothing of Longshore but its queue: adds the jobs given on stdin.
import { Queue } from "bullmq";

const { hostname, port } = new URL(process.env.REDIS_URL);
const queue = new Queue("inbound", {
  prefix: "{longshore}",
  connection: { host: hostname, port: Number(port) },
});
let input = "";
for await (const chunk of process.stdin) input += chunk;
for (const data of JSON.parse(input)) await queue.add("message", data);
await queue.close();
