import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { type CommitMeta, openBackend, SessionStore } from "@longshore/session-store";
import type { Benchmark, Measurement } from "./row.ts";

const FILES = 10_000;
const BUCKET = "store-bench";
const meta: CommitMeta = { epoch: 1, nonce: "bench", worker: "bench", kind: "turn", note: {} };

/** One piece of work as each program does it: the time in ms, by the command as one can type it. */
type Peers = ReadonlyMap<string, { readonly command: string; readonly run: () => void }>;

/**
 * The session store beside `rclone sync` and `restic` on the same S3 server and the same trees; each row's peer is the
 * fastest of them.
 */
export const benchmark: Benchmark = async function* () {
  const scratch = mkdtempSync(join(tmpdir(), "longshore-bench-"));
  try {
    yield* measure(scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

async function* measure(scratch: string): AsyncGenerator<Measurement> {
  const server = serverOfEnvironment();
  await createBucket(server);
  const run = randomBytes(6).toString("hex");
  const counts = { requests: 0, bytes: 0 };
  const backend = openBackend(`s3://${BUCKET}/${run}`, {
    endpoint: server.endpoint,
    forcePathStyle: true,
    region: "us-east-1",
    credentials: { accessKeyId: server.accessKeyId, secretAccessKey: server.secretAccessKey },
    onRequest: (_operation, _outcome, sent, received) => {
      counts.requests++;
      counts.bytes += sent + received;
    },
  });
  const store = new SessionStore({ backend });
  const reset = () => Object.assign(counts, { requests: 0, bytes: 0 });
  const ref = { tenant: "bench", sessionId: run };
  try {
    // Also makes the server do what it does but once for a new bucket.
    await store.probe();
    reset();
    const tree = join(scratch, "tree");
    makeTree(tree);
    // The store wants an empty directory to begin with; the files are put into it as an agent would.
    const own = join(scratch, "own");
    mkdirSync(own);
    using copy = await store.hydrate(ref, undefined, own);
    execFileSync("cp", ["-a", `${tree}/.`, own]);
    const remote = peersOf(server, run, scratch, tree);

    const first = await timed(async () => void (await copy.commit(await copy.mirror(), meta)));
    yield beside(`first mirror of ${FILES} files`, first, remote.upload(), { of: "ratio", atMost: 0.5 });
    yield count("requests of the first mirror", counts.requests, 20);

    for (const directory of [own, tree]) writeFileSync(join(directory, "d3/f7"), "changed");
    reset();
    const again = await timed(async () => void (await copy.commit(await copy.mirror(), meta)));
    yield beside(`mirror after 1 changed file in ${FILES}`, again, remote.upload(), {
      of: "ratio",
      atMost: 1 / 15,
    });
    yield count("requests after 1 changed file", counts.requests, 2);
    yield {
      work: "sent after 1 changed file",
      unit: "MiB",
      ours: counts.bytes / 2 ** 20,
      peer: null,
      target: { of: "ours", atMost: 1 / 16 },
    };

    const cold = join(scratch, "cold");
    mkdirSync(cold);
    const newest = await store.readNewest(ref);
    let restored: Awaited<ReturnType<SessionStore["hydrate"]>> | undefined;
    const restore = await timed(async () => {
      restored = await store.hydrate(ref, newest, cold);
    });
    yield beside(`restore ${FILES} files, cold`, restore, remote.download(), { of: "ratio", atMost: 1 / 3 });

    writeFileSync(join(own, "d4/f7"), "changed again");
    await copy.commit(await copy.mirror(), meta);
    reset();
    const follow = await timed(async () => restored?.restore(await store.readNewest(ref)));
    yield {
      work: "restore over the generation before",
      unit: "ms",
      ours: follow,
      peer: null,
      target: { of: "ours", atMost: 100 },
    };
    yield count("requests of that", counts.requests, 3);
    restored?.close();

    writeFileSync(join(own, "large"), randomBytes(256 * 2 ** 20));
    await copy.commit(await copy.mirror(), meta);
    writeFileSync(join(own, "large"), randomBytes(4096), { flag: "a" });
    reset();
    await copy.commit(await copy.mirror(), meta);
    yield {
      work: "append 4 KiB to 256 MiB, sent",
      unit: "MiB",
      ours: counts.bytes / 2 ** 20,
      peer: null,
      target: { of: "ours", atMost: 2 },
    };
  } finally {
    await store.close();
  }
}

interface Server {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

function serverOfEnvironment(): Server {
  const {
    S3_ENDPOINT: endpoint,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
  } = process.env;
  if (endpoint === undefined || accessKeyId === undefined || secretAccessKey === undefined) {
    throw new Error("S3_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have to name a real S3 server");
  }
  return { endpoint, accessKeyId, secretAccessKey };
}

async function createBucket({ endpoint, accessKeyId, secretAccessKey }: Server): Promise<void> {
  const credentials = { accessKeyId, secretAccessKey };
  const client = new S3Client({ endpoint, forcePathStyle: true, region: "us-east-1", credentials });
  await client.send(new CreateBucketCommand({ Bucket: BUCKET })).catch((error: unknown) => {
    if (!(error instanceof Error) || !/^BucketAlready/.test(error.name)) throw error;
  });
  client.destroy();
}

/** 10,000 files of 5 KB on average, of text as compressible as source code. */
function makeTree(root: string): void {
  const words = Array.from({ length: 2000 }, () => randomBytes(5).toString("base64url"));
  const word = () => words[Math.floor(Math.random() * words.length)] ?? "";
  for (let directory = 0; directory < 100; directory++) {
    mkdirSync(join(root, `d${directory}`), { recursive: true });
    for (let file = 0; file < FILES / 100; file++) {
      let content = "";
      for (const length = 2000 + Math.random() * 6000; content.length < length; ) content += `${word()} `;
      writeFileSync(join(root, `d${directory}/f${file}`), content);
    }
  }
}

interface Peer {
  readonly milliseconds: number;
  readonly command: string;
}

/** What the other programs do, with their data on the same server. */
function peersOf(server: Server, run: string, scratch: string, tree: string) {
  const environment = {
    PATH: process.env.PATH,
    HOME: scratch,
    AWS_ACCESS_KEY_ID: server.accessKeyId,
    AWS_SECRET_ACCESS_KEY: server.secretAccessKey,
    RCLONE_CONFIG_STORE_TYPE: "s3",
    RCLONE_CONFIG_STORE_PROVIDER: "Ceph",
    RCLONE_CONFIG_STORE_ENV_AUTH: "true",
    RCLONE_CONFIG_STORE_ENDPOINT: server.endpoint,
    RESTIC_REPOSITORY: `s3:${server.endpoint}/${BUCKET}/${run}-restic`,
    RESTIC_PASSWORD: "bench",
  };
  const execute = (command: string) =>
    execFileSync("sh", ["-c", command], { env: environment, stdio: "ignore" });
  const remote = `store:${BUCKET}/${run}-rclone`;
  execute("restic init");
  let downloads = 0;
  const fastest = (commands: Readonly<Record<string, string>>): Peer => {
    const peers: Peers = new Map(
      Object.entries(commands).map(([name, command]) => [name, { command, run: () => execute(command) }]),
    );
    const times = [...peers.values()].map((peer) => {
      const start = performance.now();
      peer.run();
      return { milliseconds: performance.now() - start, command: peer.command };
    });
    return times.reduce((best, peer) => (peer.milliseconds < best.milliseconds ? peer : best));
  };
  return {
    upload: () =>
      fastest({
        rclone: `rclone sync --transfers 32 --checkers 32 ${tree} ${remote}`,
        restic: `cd ${tree} && restic backup -o s3.connections=32 .`,
      }),
    download: () => {
      downloads++;
      return fastest({
        rclone: `rclone sync --transfers 32 --checkers 32 ${remote} ${scratch}/rclone${downloads}`,
        restic: `restic restore latest -o s3.connections=32 --target ${scratch}/restic${downloads}`,
      });
    },
  };
}

function beside(work: string, ours: number, peer: Peer, target: Measurement["target"] & object): Measurement {
  return { work, unit: "ms", ours, peer: peer.milliseconds, peerCommand: peer.command, target };
}

function count(work: string, ours: number, atMost: number): Measurement {
  return { work, unit: "requests", ours, peer: null, target: { of: "ours", atMost } };
}

async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
