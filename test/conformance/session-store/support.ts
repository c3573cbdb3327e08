import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import {
  type Backend,
  type BackendOptions,
  type CommitMeta,
  openBackend,
  SessionStore,
} from "@longshore/session-store";

/** The object stores that every test of this suite runs against. */
export const storeKinds = ["file", "s3"] as const;
export type StoreKind = (typeof storeKinds)[number];

/** Where the real S3 server is; fails clearly when the environment does not say. */
export function s3Options(): BackendOptions {
  const {
    S3_ENDPOINT: endpoint,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
  } = process.env;
  if (endpoint === undefined || accessKeyId === undefined || secretAccessKey === undefined) {
    throw new Error("S3_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY have to name a real S3 server");
  }
  return {
    endpoint,
    forcePathStyle: true,
    region: "us-east-1",
    credentials: { accessKeyId, secretAccessKey },
  };
}

/** A request as the backend counted it. */
export interface CountedRequest {
  readonly operation: string;
  readonly outcome: string;
  readonly sent: number;
  readonly received: number;
}

/** An empty store of its own with everything that belongs to it; disposed of at the end of a test. */
export class TestStore {
  readonly kind: StoreKind;
  readonly url: string;
  readonly backend: Backend;
  readonly store: SessionStore;
  readonly requests: CountedRequest[] = [];
  readonly scratch: string;
  readonly #options: BackendOptions;

  private constructor(kind: StoreKind, url: string, scratch: string, options: BackendOptions) {
    this.kind = kind;
    this.url = url;
    this.scratch = scratch;
    this.#options = options;
    this.backend = this.openBackend({
      onRequest: (operation, outcome, sent, received) =>
        this.requests.push({ operation, outcome, sent, received }),
    });
    this.store = new SessionStore({ backend: this.backend });
  }

  static async open(kind: StoreKind, options: BackendOptions = {}): Promise<TestStore> {
    const scratch = mkdtempSync(join(tmpdir(), "longshore-store-"));
    if (kind === "file") return new TestStore(kind, `file://${scratch}/objects`, scratch, options);
    const all = { ...s3Options(), ...options };
    await createBucket("store-tests");
    const url = `s3://store-tests/${randomBytes(8).toString("hex")}`;
    return new TestStore(kind, url, scratch, all);
  }

  /** A second, independent way to the same objects. */
  openBackend(options: BackendOptions = {}): Backend {
    return openBackend(this.url, { ...this.#options, ...options });
  }

  /** A new empty directory. */
  directory(): string {
    return mkdtempSync(join(this.scratch, "tree-"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

/** Makes the bucket of the tests, if it is not there. */
export async function createBucket(name: string): Promise<void> {
  const { endpoint, credentials } = s3Options();
  const client = new S3Client({
    forcePathStyle: true,
    region: "us-east-1",
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === undefined ? {} : { credentials }),
  });
  try {
    await client.send(new CreateBucketCommand({ Bucket: name }));
  } catch (error) {
    if (!(error instanceof Error) || !/^BucketAlready/.test(error.name)) throw error;
  } finally {
    client.destroy();
  }
}

export const REF = { tenant: "acme", sessionId: "s1" };

/** What a commit says, with what a test wants to be different. */
export function meta(changes: Partial<CommitMeta> = {}): CommitMeta {
  return { epoch: 1, nonce: "n1", worker: "w1", kind: "turn", note: {}, ...changes };
}

/** Everything a restore owes, path by path: type, mode, time to the microsecond, content or target. */
export function fingerprint(directory: string): Record<string, string> {
  const seen: Record<string, string> = {};
  const walk = (prefix: Buffer): void => {
    for (const name of readdirSync(Buffer.concat([Buffer.from(`${directory}/`), prefix]), {
      encoding: "buffer",
    })) {
      const relative = Buffer.concat([prefix, name]);
      const path = Buffer.concat([Buffer.from(`${directory}/`), relative]);
      const stats = lstatSync(path, { bigint: true });
      // Downwards, before 1970 too.
      const time = (stats.mtimeNs - (((stats.mtimeNs % 1000n) + 1000n) % 1000n)) / 1000n;
      const key = relative.toString("latin1");
      if (stats.isDirectory()) {
        seen[key] = `directory ${(stats.mode & 0o7777n).toString(8)} ${time}`;
        walk(Buffer.concat([relative, Buffer.from("/")]));
      } else if (stats.isSymbolicLink()) {
        seen[key] = `link ${readlinkSync(path, { encoding: "latin1" })} ${time}`;
      } else if (stats.isFile()) {
        const hash = createHash("sha256").update(readFileSync(path)).digest("hex");
        seen[key] = `file ${(stats.mode & 0o7777n).toString(8)} ${time} ${stats.size} ${hash}`;
      } else {
        seen[key] = "special";
      }
    }
  };
  walk(Buffer.alloc(0));
  return seen;
}

/** What a generation keeps of a tree: the fingerprint without set-id and sticky bits, FIFOs, sockets and devices. */
export function keptFingerprint(directory: string): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [path, seen] of Object.entries(fingerprint(directory))) {
    if (seen === "special") continue;
    kept[path] = seen.replace(/^(file|directory) [0-7]+ /, (start, type: string) => {
      const mode = Number.parseInt(start.slice(type.length + 1), 8) & 0o777;
      return `${type} ${mode.toString(8)} `;
    });
  }
  return kept;
}

/** All of a stream. */
export async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

/** Runs a program and waits for it. */
export function run(command: string, ...args: string[]): void {
  execFileSync(command, args);
}
