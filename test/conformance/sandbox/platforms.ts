import { request } from "node:http";
import { BwrapRuntime, DockerRuntime, type SandboxRuntime, type SandboxSpec } from "@longshore/sandbox";

/** A way to run sandboxes: all of them must pass the same tests. */
export interface Platform {
  readonly name: "docker runc" | "docker runsc" | "docker podman" | "bwrap" | "bwrap without cgroups";
  /** Whether the processes of a sandbox are counted and its memory limited as a whole by the host's kernel. */
  readonly countsProcesses: boolean;
  readonly spec: Partial<SandboxSpec>;
  runtime(runDirectory: string): SandboxRuntime;
}

export const HOST = "conformance";

/** The engine's address and what is in it, from the environment. */
export const engineAddress = requireVariable("DOCKER_HOST");
export const image = process.env.LONGSHORE_TEST_IMAGE ?? "longshore/agent-shell:dev";
const rootfs = requireVariable("LONGSHORE_TEST_ROOTFS");

function requireVariable(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} must be set; "npm test" sets it`);
  return value;
}

/** Every way that this machine has. gVisor is one where the engine knows it as `runsc`; Podman has its own configuration's. */
export const platforms: readonly Platform[] = [
  ...((await isPodman())
    ? [docker("docker podman", undefined)]
    : [
        docker("docker runc", "runc"),
        ...((await engineRuntimes()).includes("runsc") ? [docker("docker runsc", "runsc")] : []),
      ]),
  bwrap("bwrap", undefined),
  bwrap("bwrap without cgroups", null),
];

function docker(name: Platform["name"], ociRuntime: string | undefined): Platform {
  const requiredRuntimes = ociRuntime === undefined ? [] : [ociRuntime];
  return {
    name,
    countsProcesses: true,
    spec: { image, ...(ociRuntime === undefined ? {} : { ociRuntime }) },
    runtime: (runDirectory) =>
      new DockerRuntime({ address: engineAddress, host: HOST, runDirectory, requiredRuntimes }),
  };
}

function bwrap(name: Platform["name"], cgroups: null | undefined): Platform {
  return {
    name,
    countsProcesses: cgroups !== null,
    spec: { rootfs },
    runtime: (runDirectory) =>
      new BwrapRuntime({ host: HOST, runDirectory, ...(cgroups === null ? { cgroups } : {}) }),
  };
}

async function engineRuntimes(): Promise<string[]> {
  return Object.keys((JSON.parse(await askEngine("/info")) as { Runtimes: object }).Runtimes);
}

async function isPodman(): Promise<boolean> {
  return (await askEngine("/version")).includes("Podman Engine");
}

async function askEngine(path: string): Promise<string> {
  const url = new URL(engineAddress);
  const target =
    url.protocol === "unix:" ? { socketPath: url.pathname } : { host: url.hostname, port: url.port };
  const answer = Promise.withResolvers<string>();
  request({ ...target, path, headers: { Host: "docker" } }, (response) => {
    let body = "";
    response.setEncoding("utf8").on("data", (text: string) => {
      body += text;
    });
    response.on("end", () => answer.resolve(body));
  })
    .on("error", answer.reject)
    .end();
  return await answer.promise;
}
