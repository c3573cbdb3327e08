import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { debianPath } from "../../../infra/setup/programs.ts";
import { type ProcessFigures, runMeasured } from "../measured-process.ts";
import type { BenchServer } from "./bench-server.ts";

/** The commands of a peer, as one can type them for a directory TREE or TARGET and a PLACE in the store. */
interface Commands {
  /** Makes a new place; it is not measured. */
  readonly prepare?: string;
  readonly upload: string;
  readonly download: string;
  /** The place of that name. */
  readonly place: (name: string, server: BenchServer) => string;
}

/**
 * 32 transfers at once where they can be told; restic's CACHE is that of the host: kept from upload to upload, new for
 * a download to a host that never had the data. aws is told by its configuration file.
 */
const programs = {
  rclone: {
    upload: "rclone sync --transfers 32 --checkers 32 TREE PLACE",
    download: "rclone sync --transfers 32 --checkers 32 PLACE TARGET",
    place: (name, { bucket, prefix }) => `store:${bucket}/${prefix}/${name}`,
  },
  restic: {
    prepare: "restic --repo PLACE --cache-dir CACHE init",
    upload: "restic --repo PLACE --cache-dir CACHE --option s3.connections=32 backup TREE",
    download:
      "restic --repo PLACE --cache-dir CACHE --option s3.connections=32 restore latest --target TARGET",
    place: (name, { endpoint, bucket, prefix }) => `s3:${endpoint}/${bucket}/${prefix}/${name}`,
  },
  aws: {
    upload: "aws s3 sync --endpoint-url ENDPOINT --only-show-errors TREE PLACE",
    download: "aws s3 sync --endpoint-url ENDPOINT --only-show-errors PLACE TARGET",
    place: (name, { bucket, prefix }) => `s3://${bucket}/${prefix}/${name}`,
  },
} as const satisfies Readonly<Record<string, Commands>>;

export type PeerName = keyof typeof programs;

/** What keeps a directory in an object store today, with its data in the same bucket. */
export class Peer {
  readonly name: PeerName;
  readonly #server: BenchServer;
  /** For its configuration and caches. */
  readonly #home: string;

  /** @param scratch a directory for what they keep on this host */
  static all(server: BenchServer, scratch: string): Peer[] {
    return (Object.keys(programs) as PeerName[]).map((name) => new Peer(name, server, join(scratch, name)));
  }

  private constructor(name: PeerName, server: BenchServer, home: string) {
    this.name = name;
    this.#server = server;
    this.#home = home;
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "aws"), "[default]\ns3 =\n  max_concurrent_requests = 32\n");
  }

  /** As one can type them. */
  get commands(): Commands {
    return programs[this.name];
  }

  /** Makes a place in the store, which is empty. */
  async prepare(place: string): Promise<void> {
    const { prepare } = this.commands;
    if (prepare !== undefined) await this.#run(prepare, place, { CACHE: join(this.#home, "cache") });
  }

  async upload(tree: string, place: string): Promise<ProcessFigures> {
    return await this.#run(this.commands.upload, place, { TREE: tree, CACHE: join(this.#home, "cache") });
  }

  /** @param target does not exist */
  async download(place: string, target: string): Promise<ProcessFigures> {
    const cache = join(this.#home, "new-cache");
    try {
      return await this.#run(this.commands.download, place, { TARGET: target, CACHE: cache });
    } finally {
      rmSync(cache, { recursive: true, force: true });
    }
  }

  async #run(
    command: string,
    place: string,
    names: Readonly<Record<string, string>>,
  ): Promise<ProcessFigures> {
    const values: Readonly<Record<string, string>> = {
      ...names,
      ENDPOINT: this.#server.endpoint,
      PLACE: this.commands.place(`${this.name}/${place}`, this.#server),
    };
    return await runMeasured(
      command.split(" ").map((word) => values[word] ?? word),
      this.#environment,
    );
  }

  /** Nothing is inherited: a proxy, a profile or a bundle of certificates of this machine would be another benchmark. */
  get #environment(): NodeJS.ProcessEnv {
    const { endpoint, region, credentials } = this.#server;
    return {
      PATH: debianPath,
      HOME: this.#home,
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      AWS_DEFAULT_REGION: region,
      AWS_CONFIG_FILE: join(this.#home, "aws"),
      RCLONE_CONFIG_STORE_TYPE: "s3",
      RCLONE_CONFIG_STORE_PROVIDER: "Ceph",
      RCLONE_CONFIG_STORE_ENV_AUTH: "true",
      RCLONE_CONFIG_STORE_ENDPOINT: endpoint,
      RESTIC_PASSWORD: "bench",
    };
  }
}
