import { openBackend } from "@longshore/session-store";
import { Fleet } from "../support/fleet.ts";
import type { Measurement } from "./row.ts";
import { median } from "./turns.ts";

const WARM_UP = 2;
const RUNS = 15;
/** About what a small commit has. */
const PUT_BYTES = 2_048;
const CHANGE = "$ for i in 1 2 3; do date +%N > file$i; done; echo done";

/**
 * From the end of the agent's answer to its reply in the queue of those to deliver: the pause, the look at what changed, the
 * commit to the S3 server, and the publication; next to one put to the same server, by turns.
 */
export async function* measureTurnEnd(): AsyncGenerator<Measurement> {
  await using fleet = await Fleet.start({ runtime: "docker", store: "s3", agent: { linger: "1m" } });
  const { api } = await fleet.startDispatcher({ LOG_LEVEL: "info" });
  const worker = await fleet.startWorker({ LOG_LEVEL: "info" });
  const { OBJECT_STORE_URL = "", S3_ENDPOINT, AWS_REGION } = fleet.environment;
  const store = openBackend(OBJECT_STORE_URL, {
    forcePathStyle: true,
    ...(S3_ENDPOINT === undefined ? {} : { endpoint: S3_ENDPOINT }),
    ...(AWS_REGION === undefined ? {} : { region: AWS_REGION }),
  });
  const ours: number[] = [];
  const puts: number[] = [];
  for (let run = 0; run < WARM_UP + RUNS; run++) {
    const { messageId } = await api.ask("changes", `${run}`, CHANGE);
    const line = await worker.line(
      ({ msg, messageIds }) => msg === "turn answered" && (messageIds as string[]).includes(messageId),
    );
    const { mirror = Number.NaN, commit = Number.NaN } = line.phases as Readonly<Record<string, number>>;
    ours.push(mirror + commit);
    const start = performance.now();
    await store.putIfAbsent(`put-${run}`, Buffer.alloc(PUT_BYTES, run));
    puts.push(performance.now() - start);
  }
  store.close();
  const [turnEnd, put] = [ours, puts].map((times) => median(times.slice(WARM_UP))) as [number, number];
  yield {
    work: "turn end to reply queued, 3 small files changed, docker, S3",
    unit: "ms",
    ours: turnEnd,
    peer: put,
    peerCommand: `one put of ${PUT_BYTES} bytes to the same server`,
  };
  yield {
    work: "  beyond one put",
    unit: "ms",
    ours: turnEnd - put,
    peer: null,
    target: { of: "ours", atMost: 25 },
  };
}
