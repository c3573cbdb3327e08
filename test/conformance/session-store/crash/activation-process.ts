import { openBackend, SessionStore } from "@longshore/session-store";
import { meta, s3Options } from "../support.ts";
import { arm, disarm, unwatchedWrite } from "./file-boundaries.ts";
import { editSampleTree, SAMPLE_UPLOAD } from "./sample-tree.ts";

// An activation as a process that can be killed: restores the newest generation, works, mirrors, commits, undoes it all,
// for good too, and takes an upload. Says on its standard output what it knows to be done.

/** What the process is told, as JSON in its first argument. */
export interface ActivationOrder {
  readonly url: string;
  readonly endpoint?: string;
  readonly sessionId: string;
  /** Empty. */
  readonly directory: string;
  /** The directory of the host's chunk cache. */
  readonly cache: string;
  /** The change of a file system to die at; none by default. */
  readonly dieAt?: number;
}

const order = JSON.parse(process.argv[2] ?? "") as ActivationOrder;
const say = (line: string) => unwatchedWrite(1, Buffer.from(`${line}\n`));
const ref = { tenant: "acme", sessionId: order.sessionId };
const backend = openBackend(
  order.url,
  order.endpoint === undefined ? {} : { ...s3Options(), endpoint: order.endpoint },
);
const cache = { directory: order.cache, maxBytes: 100_000_000 };
const store = new SessionStore({ backend, threads: 1, cache });

arm(order.dieAt);
const base = await store.readNewest(ref);
const copy = await store.hydrate(ref, base, order.directory);
disarm();
say("hydrated");
editSampleTree(order.directory);
arm();
const turn = await copy.commit(await copy.mirror(), meta({ epoch: 2, nonce: "killed" }));
say(turn.outcome);
await copy.restore(base);
copy.close();
const undone = await store.rollback(ref, turn.commit, base, meta({ epoch: 2, kind: "rollback" }));
say(undone.outcome);
const upload = { set: [SAMPLE_UPLOAD] };
const uploaded = await store.commitFiles(ref, undone.commit, upload, meta({ epoch: 2, kind: "upload" }));
say(uploaded.outcome);
await store.close();
say(`boundaries ${disarm()}`);
