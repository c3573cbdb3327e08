import { randomBytes } from "node:crypto";
import { appendFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { openBackend, SessionStore } from "@longshore/session-store";
import { meta, s3Options } from "../support.ts";

// A process that commits to a session beside others, by adding a line to a file: first some rounds in which all have the
// same parent and commit when they are told to, then a number of commits as fast as it can. Whenever it is told that
// somebody else was faster it goes on from the newest generation.

/** What the process is told, as JSON in its first argument. */
export interface WriterOrder {
  readonly url: string;
  readonly sessionId: string;
  readonly directory: string;
  readonly name: string;
  /** Rounds with the others. */
  readonly together: number;
  /** Commits after them. */
  readonly commits: number;
}

const order = JSON.parse(process.argv[2] ?? "") as WriterOrder;
const ref = { tenant: "acme", sessionId: order.sessionId };
const backend = openBackend(order.url, order.url.startsWith("s3:") ? s3Options() : {});
const store = new SessionStore({ backend, threads: 1 });
using copy = await store.hydrate(ref, await store.readNewest(ref), order.directory);
const told = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let done = 0;
for (let round = 0; round < order.together; round++) {
  console.log(`at ${copy.base?.generation ?? 0}`);
  await told.next();
  await commit();
}
for (const before = done; done < before + order.commits; ) await commit();
await store.close();
process.stdin.destroy();

async function commit(): Promise<void> {
  appendFileSync(join(copy.directory, "lines"), `${order.name} ${done}\n`);
  const stamp = randomBytes(20_000);
  writeFileSync(join(copy.directory, "stamp"), stamp);
  writeFileSync(join(copy.directory, "same stamp"), stamp);
  const { outcome, commit } = await copy.commit(await copy.mirror(), meta({ nonce: order.name }));
  console.log(`${outcome} ${commit.generation} ${commit.nonce}`);
  if (outcome === "committed") done++;
  else await copy.restore(await store.readNewest(ref));
}
