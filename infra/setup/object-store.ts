import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type CephAddresses, cephConfiguration, clusterId } from "./ceph-configuration.ts";
import { requireProgram } from "./debian-packages.ts";
import { onFreePorts } from "./free-port.ts";
import { launch } from "./launch.ts";
import type { OwnedProcess } from "./owned-process.ts";
import type { PrivateServiceOptions } from "./redis.ts";
import { run } from "./run-command.ts";
import { type Service, ServiceProcess } from "./service.ts";

/** Where an S3 server is and who may use it. */
export interface ObjectStoreAccess {
  /** `http://127.0.0.1:PORT` */
  readonly endpoint: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** A private S3 server: Ceph's gateway. Its objects are in memory and outlive a restart of the gateway. */
export interface ObjectStore extends Service, ObjectStoreAccess {}

/** The pools of a bucket. Made ahead, since the first request that needs one takes two seconds else. */
const bucketPools = ["index", "data", "non-ec"].map((name) => `default.rgw.buckets.${name}`);

/**
 * Starts a Ceph cluster of one monitor, one object store daemon and one gateway, with one user whose
 * keys are random. Takes one to two seconds.
 */
export async function startObjectStore(options: PrivateServiceOptions): Promise<ObjectStore> {
  requireProgram("radosgw");
  return await onFreePorts(3, async (gatewayPort = 0, monitorPort = 0, legacyMonitorPort = 0) => {
    const cluster = new CephCluster(options, { gatewayPort, monitorPort, legacyMonitorPort });
    try {
      return await cluster.start();
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  });
}

class CephCluster {
  readonly #directory: string;
  readonly #signal: AbortSignal | undefined;
  readonly #addresses: CephAddresses;
  readonly #access: ObjectStoreAccess;
  readonly #daemons: OwnedProcess[] = [];
  #gateway: ServiceProcess | null = null;

  constructor(options: PrivateServiceOptions, addresses: CephAddresses) {
    this.#directory = options.directory;
    this.#signal = options.signal;
    this.#addresses = addresses;
    this.#access = {
      endpoint: `http://127.0.0.1:${addresses.gatewayPort}`,
      region: "us-east-1",
      accessKeyId: randomBytes(10).toString("hex").toUpperCase(),
      secretAccessKey: randomBytes(20).toString("hex"),
    };
  }

  async start(): Promise<ObjectStore> {
    await this.#layOut();
    await this.#startMonitor();
    await this.#startObjectStoreDaemon();
    const [gateway] = await Promise.all([
      ServiceProcess.start(() => this.#launchGateway()),
      this.#makePools(),
    ]);
    this.#gateway = gateway;
    await this.#makeUser();
    return {
      ...this.#access,
      get pid() {
        return gateway.pid;
      },
      stop: () => this.stop(),
      kill: () => gateway.kill(),
      restart: () => gateway.restart(),
      signal: (name) => gateway.signal(name),
      [Symbol.asyncDispose]: () => this.stop(),
    };
  }

  async stop(): Promise<void> {
    await this.#gateway?.stop();
    // Whoever was started last depends on the others.
    for (const daemon of this.#daemons.toReversed()) {
      // Nothing of theirs is kept, and their orderly stop takes seconds.
      await daemon.kill();
    }
  }

  async #layOut(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
    for (const name of ["log", "run", "mon", "osd", "rgw"]) {
      await mkdir(join(this.#directory, name), { recursive: true, mode: 0o700 });
    }
    await writeFile(this.#configurationFile, cephConfiguration(this.#directory, this.#addresses));
    const keyring = join(this.#directory, "keyring");
    const users: [string, string[]][] = [
      ["mon.", ["mon", "allow *"]],
      ["client.admin", ["mon", "allow *", "osd", "allow *", "mgr", "allow *"]],
      ["osd.0", ["mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"]],
      ["client.rgw", ["mon", "allow *", "osd", "allow *", "mgr", "allow *"]],
    ];
    for (const [index, [name, capabilities]] of users.entries()) {
      const create = index === 0 ? ["--create-keyring"] : [];
      const grants = capabilities.flatMap((word, position) =>
        position % 2 === 0 ? ["--cap", word] : [word],
      );
      await this.#run(["ceph-authtool", keyring, ...create, "--gen-key", "-n", name, ...grants]);
    }
  }

  async #startMonitor(): Promise<void> {
    const map = join(this.#directory, "monmap");
    const { monitorPort, legacyMonitorPort } = this.#addresses;
    const address = `[v2:127.0.0.1:${monitorPort},v1:127.0.0.1:${legacyMonitorPort}]`;
    await this.#run([
      "monmaptool",
      "--create",
      "--clobber",
      "--fsid",
      clusterId,
      "--addv",
      "a",
      address,
      map,
    ]);
    const keyring = join(this.#directory, "keyring");
    await this.#run([
      "ceph-mon",
      "-i",
      "a",
      ...this.#configured,
      "--mkfs",
      "--monmap",
      map,
      "--keyring",
      keyring,
    ]);
    await this.#launch("ceph-mon", ["-f", "-i", "a"], async () => {
      await this.#ceph("mon", "stat");
      return true;
    });
  }

  async #startObjectStoreDaemon(): Promise<void> {
    const id = randomUUID();
    await this.#ceph("osd", "new", id, "0");
    await this.#run(["ceph-osd", "-i", "0", ...this.#configured, "--mkfs", "--osd-uuid", id]);
    await this.#launch("ceph-osd", ["-f", "-i", "0"], async () =>
      (await this.#ceph("osd", "stat")).includes("1 up"),
    );
  }

  async #makePools(): Promise<void> {
    await Promise.all(
      bucketPools.map(async (pool) => {
        await this.#ceph("osd", "pool", "create", pool, "8", "8");
        await this.#ceph("osd", "pool", "application", "enable", pool, "rgw");
      }),
    );
  }

  async #makeUser(): Promise<void> {
    const { accessKeyId, secretAccessKey } = this.#access;
    const keys = ["--access-key", accessKeyId, "--secret-key", secretAccessKey];
    const user = ["--uid=longshore", "--display-name=longshore", "--max-buckets=0"];
    await this.#run([
      "radosgw-admin",
      ...this.#configured,
      "-n",
      "client.rgw",
      "user",
      "create",
      ...user,
      ...keys,
    ]);
  }

  async #launchGateway(): Promise<OwnedProcess> {
    return await launch({
      ...this.#processOptions("radosgw", ["-f", "-n", "client.rgw"]),
      // Any answer will do: without credentials it is a refusal.
      answers: async () =>
        (await fetch(this.#access.endpoint, { signal: AbortSignal.timeout(2_000) })).status > 0,
    });
  }

  async #launch(program: string, args: readonly string[], answers: () => Promise<boolean>): Promise<void> {
    this.#daemons.push(await launch({ ...this.#processOptions(program, args), answers }));
  }

  #processOptions(program: string, args: readonly string[]) {
    return {
      name: program,
      command: [program, ...args, ...this.#configured],
      logFile: join(this.#directory, "log", `${program}.out`),
      startTimeoutMs: 60_000,
      signal: this.#signal,
    };
  }

  get #configurationFile(): string {
    return join(this.#directory, "ceph.conf");
  }

  get #configured(): string[] {
    return ["-c", this.#configurationFile];
  }

  async #ceph(...words: string[]): Promise<string> {
    return await this.#run(["ceph", ...this.#configured, "--connect-timeout", "5", ...words]);
  }

  async #run(command: readonly string[]): Promise<string> {
    const env = { ...process.env, PYTHONWARNINGS: "ignore", CEPH_ARGS: undefined };
    return await run(command, { env, signal: this.#signal });
  }
}
