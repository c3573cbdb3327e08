import { randomBytes } from "node:crypto";
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBackend, SessionStore } from "@longshore/session-store";
import { meta, s3Options } from "../support.ts";

// A process that commits to a session beside others: it adds a line to a file so many times, and does so anew over
// the newest generation whenever it is told that somebody else was faster.

/** What the process is told, as JSON in its first argument. */
export interface WriterOrder {
  readonly url: string;
  readonly sessionId: string;
  readonly directory: string;
  readonly name: string;
  readonly commits: number;
}

const order = JSON.parse(process.argv[2] ?? "") as WriterOrder;
const ref = { tenant: "acme", sessionId: order.sessionId };
const backend = openBackend(order.url, order.url.startsWith("s3:") ? s3Options() : {});
const store = new SessionStore({ backend, threads: 1 });
using copy = await store.hydrate(ref, await store.readNewest(ref), order.directory);
for (let done = 0; done < order.commits; ) {
  appendFileSync(join(copy.directory, "lines"), `${order.name} ${done}\n`);
  const stamp = randomBytes(20_000);
  writeFileSync(join(copy.directory, "stamp"), stamp);
  writeFileSync(join(copy.directory, "same stamp"), stamp);
  const { outcome, commit } = await copy.commit(await copy.mirror(), meta({ nonce: order.name }));
  console.log(`${outcome} ${commit.generation} ${commit.nonce}`);
  if (outcome === "committed") done++;
  else await copy.restore(await store.readNewest(ref));
}
await store.close();
