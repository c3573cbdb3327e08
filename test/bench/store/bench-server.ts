import { randomBytes } from "node:crypto";
import { DeleteObjectsCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import { openBackend, SessionStore } from "@longshore/session-store";

/** What a store sent since it was reset. */
export interface Traffic {
  requests: number;
  bytesSent: number;
  bytesReceived: number;
}

export interface OpenedStore extends AsyncDisposable {
  readonly store: SessionStore;
  readonly traffic: Traffic;
}

/** A place of one benchmark's own on the S3 server that the environment names, for ours and for its peers. */
export class BenchServer implements AsyncDisposable {
  readonly endpoint: string;
  readonly bucket: string;
  /** Every key begins with it. */
  readonly prefix: string;
  readonly region: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };

  /** @param prefix of a benchmark that is under way. @default a new one */
  constructor(prefix?: string) {
    const { protocol, hostname, pathname } = new URL(required("OBJECT_STORE_URL"));
    if (protocol !== "s3:") throw new Error("OBJECT_STORE_URL has to name a bucket: s3://BUCKET/PREFIX");
    this.endpoint = required("S3_ENDPOINT");
    this.bucket = hostname;
    this.prefix =
      prefix ?? `${pathname.slice(1)}/bench-${randomBytes(6).toString("hex")}`.replace(/^\/+/, "");
    this.region = process.env.AWS_REGION ?? "us-east-1";
    this.credentials = {
      accessKeyId: required("AWS_ACCESS_KEY_ID"),
      secretAccessKey: required("AWS_SECRET_ACCESS_KEY"),
    };
  }

  get #access() {
    return {
      endpoint: this.endpoint,
      forcePathStyle: true,
      region: this.region,
      credentials: this.credentials,
    };
  }

  /** A store of sessions in this place, which counts what it sends. */
  openStore(): OpenedStore {
    const traffic: Traffic = { requests: 0, bytesSent: 0, bytesReceived: 0 };
    const backend = openBackend(`s3://${this.bucket}/${this.prefix}/ours`, {
      ...this.#access,
      onRequest: (_operation, _outcome, sent, received) => {
        traffic.requests++;
        traffic.bytesSent += sent;
        traffic.bytesReceived += received;
      },
    });
    const store = new SessionStore({ backend });
    return { store, traffic, [Symbol.asyncDispose]: () => store.close() };
  }

  /** Removes all objects below a prefix of this place. */
  async remove(below = ""): Promise<void> {
    const Prefix = `${this.prefix}/${below}`;
    const client = new S3Client(this.#access);
    try {
      for (;;) {
        const { Contents = [] } = await client.send(
          new ListObjectsV2Command({ Bucket: this.bucket, Prefix }),
        );
        if (Contents.length === 0) return;
        const Objects = Contents.map(({ Key }) => ({ Key }));
        await client.send(
          new DeleteObjectsCommand({ Bucket: this.bucket, Delete: { Objects, Quiet: true } }),
        );
      }
    } finally {
      client.destroy();
    }
  }

  /** Removes everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
  }
}

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this by \`npm run bench -- store\``);
  return value;
}
