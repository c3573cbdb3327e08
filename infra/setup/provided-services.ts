import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import Dockerode from "dockerode";
import { buildAgentImage, buildHelpers, bundleAgent, unpackAgentRootfs } from "./agent-image.ts";
import { type DebianBase, debianBase } from "./debian-base.ts";
import { installPrograms, type KnownProgram } from "./debian-packages.ts";
import { startDocker } from "./docker-engine.ts";
import { SetupError } from "./errors.ts";
import { type ObjectStoreAccess, startObjectStore } from "./object-store.ts";
import { startRedis } from "./redis.ts";
import { ScratchDirectory } from "./scratch-directory.ts";
import type { SetupContext } from "./setup-context.ts";

/** Redis, an S3 server and a Docker engine, with the reference agent in it. */
export interface ProvidedServices extends AsyncDisposable {
  /** The environment that names them all, for whatever uses them: this process's own and more. */
  readonly environment: NodeJS.ProcessEnv;
}

const systemEngine = "unix:///var/run/docker.sock";

/**
 * Provides each service: the one that the environment names (`REDIS_URL`; `S3_ENDPOINT` with
 * `OBJECT_STORE_URL`; `DOCKER_HOST`, or the machine's own engine where it answers), else a private one
 * that is started now and ended on disposal. Missing programs are installed first.
 *
 * Beside the fleet's own variables the environment gets `LONGSHORE_TEST_IMAGE` (the reference agent's
 * image) and `LONGSHORE_TEST_ROOTFS` (the same as a directory, for bubblewrap).
 *
 * @param extraPrograms What else has to be installed.
 * @throws {SetupError} when something can't be provided; what was started is ended then.
 */
export async function provideServices(
  context: SetupContext,
  given: NodeJS.ProcessEnv,
  extraPrograms: readonly KnownProgram[] = [],
): Promise<ProvidedServices> {
  await using stack = new AsyncDisposableStack();
  const engineUrl = await namedEngine(given);
  await installPrograms(
    [
      ...(["setpriv", "mmdebstrap", "bwrap", "mkfs.ext4", "musl-gcc", "sqlite3"] as const),
      ...(given.REDIS_URL === undefined ? (["redis-server"] as const) : []),
      ...(given.S3_ENDPOINT === undefined ? (["radosgw"] as const) : []),
      ...(engineUrl === null ? (["dockerd", "runsc"] as const) : []),
      ...extraPrograms,
    ],
    context,
  );
  const scratch = stack.use(await ScratchDirectory.create());
  const at = (name: string) => ({ directory: join(scratch.path, name), signal: context.signal });
  const materials = Promise.all([
    debianBase(context),
    bundleAgent(context.signal),
    buildHelpers(context.signal),
  ]).then(([base]) => base);
  const parts = await allOrFirstFailure([
    provideRedis(given, at("redis"), stack),
    provideObjectStore(given, at("s3"), stack),
    provideEngine(engineUrl, at("docker"), stack, materials),
    provideRootfs(materials, at("rootfs")),
  ]);
  const owner = stack.move();
  return {
    environment: Object.assign(inheritable(given), ...parts),
    [Symbol.asyncDispose]: () => owner.disposeAsync(),
  };
}

interface Place {
  readonly directory: string;
  readonly signal: AbortSignal | undefined;
}

/** Variables for the environment. */
type Variables = Readonly<Record<string, string>>;

async function provideRedis(
  given: NodeJS.ProcessEnv,
  place: Place,
  stack: AsyncDisposableStack,
): Promise<Variables> {
  return given.REDIS_URL === undefined ? { REDIS_URL: stack.use(await startRedis(place)).url } : {};
}

async function provideObjectStore(
  given: NodeJS.ProcessEnv,
  place: Place,
  stack: AsyncDisposableStack,
): Promise<Variables> {
  if (given.S3_ENDPOINT !== undefined) {
    if (given.OBJECT_STORE_URL === undefined) {
      throw new SetupError(
        "SETUP_SERVICE_UNUSABLE",
        "S3_ENDPOINT names an S3 server: name a bucket of it too, by OBJECT_STORE_URL=s3://bucket/prefix",
      );
    }
    return {};
  }
  const store = stack.use(await startObjectStore(place));
  const bucket = `longshore-${randomBytes(4).toString("hex")}`;
  await createBucket(store, bucket);
  return {
    OBJECT_STORE_URL: `s3://${bucket}`,
    S3_ENDPOINT: store.endpoint,
    S3_FORCE_PATH_STYLE: "true",
    AWS_REGION: store.region,
    AWS_ACCESS_KEY_ID: store.accessKeyId,
    AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
  };
}

async function provideEngine(
  url: string | null,
  place: Place,
  stack: AsyncDisposableStack,
  materials: Promise<DebianBase>,
): Promise<Variables> {
  const engineUrl = url ?? stack.use(await startDocker(place)).url;
  const image = await buildAgentImage(engineAt(engineUrl), await materials);
  return { DOCKER_HOST: engineUrl, LONGSHORE_TEST_IMAGE: image };
}

async function provideRootfs(materials: Promise<DebianBase>, place: Place): Promise<Variables> {
  const directory = await unpackAgentRootfs(await materials, place.directory, place.signal);
  return { LONGSHORE_TEST_ROOTFS: directory };
}

/** The engine to use instead of a private one, or null. */
export async function namedEngine(given: NodeJS.ProcessEnv): Promise<string | null> {
  const url = given.DOCKER_HOST ?? systemEngine;
  try {
    await engineAt(url).ping();
    return url;
  } catch (cause) {
    if (given.DOCKER_HOST === undefined) {
      return null;
    }
    throw new SetupError("SETUP_SERVICE_UNUSABLE", `no Docker engine answers at DOCKER_HOST (${url})`, {
      cause,
    });
  }
}

/** A client of the engine at a `DOCKER_HOST` of the form `unix://PATH` or `tcp://HOST:PORT`. */
export function engineAt(url: string): Dockerode {
  const { protocol, pathname, hostname, port } = new URL(url);
  return protocol === "unix:"
    ? new Dockerode({ socketPath: pathname })
    : new Dockerode({ protocol: "http", host: hostname, port });
}

/** Makes a bucket on a server of {@link startObjectStore}. */
export async function createBucket(access: ObjectStoreAccess, bucket: string): Promise<void> {
  const client = new S3Client({
    endpoint: access.endpoint,
    region: access.region,
    credentials: { accessKeyId: access.accessKeyId, secretAccessKey: access.secretAccessKey },
    forcePathStyle: true,
  });
  try {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
  } finally {
    client.destroy();
  }
}

/**
 * The environment without what changes how an S3 client signs, trusts and finds its server, where the
 * server is a private one: somebody's profile, session token, certificate bundle.
 */
function inheritable(given: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return given.S3_ENDPOINT === undefined
    ? Object.fromEntries(Object.entries(given).filter(([name]) => !name.startsWith("AWS_")))
    : { ...given };
}

/** Waits for all, so that nothing is still being started when the first failure is thrown. */
async function allOrFirstFailure<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return await Promise.all(promises);
}
