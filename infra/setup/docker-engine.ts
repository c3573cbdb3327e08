import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import Dockerode from "dockerode";
import { removeControlGroups } from "./control-groups.ts";
import { requireProgram } from "./debian-packages.ts";
import { killMentioning } from "./kill-processes.ts";
import { launch } from "./launch.ts";
import { unmountBelow } from "./mounts.ts";
import type { OwnedProcess } from "./owned-process.ts";
import { asRoot } from "./privilege.ts";
import { findProgram } from "./programs.ts";
import type { PrivateServiceOptions } from "./redis.ts";
import { capture } from "./run-command.ts";
import { type Service, ServiceProcess } from "./service.ts";

/** A private Docker engine. */
export interface DockerEngine extends Service {
  /** `unix:///.../docker.sock`, as `DOCKER_HOST` has it. */
  readonly url: string;
}

/** How long the removal of all containers may take, in milliseconds. */
const removalTimeoutMs = 20_000;

/**
 * gVisor as this fleet runs it. `ptrace` since the packaged version has no `systrap`; `kvm` hangs where
 * virtualisation is nested.
 */
const gvisorArguments = ["--platform=ptrace", "--network=none", "--host-uds=open"];

/** What engine and containerd make outside the directories that they are given. */
const strayDirectories = [
  "/run/docker/plugins",
  "/run/docker",
  "/run/containerd/s",
  "/run/containerd",
  "/opt/containerd/bin",
  "/opt/containerd/lib",
  "/opt/containerd",
];

/**
 * Starts a Docker engine that shares nothing with another one on the machine: its own socket, images,
 * state, control groups; no bridge and no packet filter rules, so that containers have either no network
 * or the host's. It knows the runtime `runsc` where gVisor is installed. Containers don't survive it.
 */
export async function startDocker(options: PrivateServiceOptions): Promise<DockerEngine> {
  const program = requireProgram("dockerd");
  const { directory, signal } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const socket = join(directory, "docker.sock");
  const controlGroup = `${basename(dirname(directory))}-${basename(directory)}`;
  const configurationFile = join(directory, "daemon.json");
  await writeFile(configurationFile, JSON.stringify(engineConfiguration(directory, controlGroup)));
  const client = new Dockerode({ socketPath: socket });
  const start = async (): Promise<OwnedProcess> => {
    // What a killed engine leaves: containerd, if it did not die with it, and its id, which a new engine
    // takes for a living one's as long as nobody has reaped it, and then waits for in vain.
    await killMentioning(join(directory, "exec/containerd/containerd.toml"));
    await capture(asRoot(["rm", "-f", join(directory, "exec/containerd/containerd.pid")]));
    return await launch({
      name: "dockerd",
      command: [program, "--config-file", configurationFile, "--host", `unix://${socket}`],
      logFile: join(directory, "dockerd.log"),
      privileged: true,
      // An engine that is told to end takes its containers and containerd with it.
      signalWithParent: "TERM",
      stopTimeoutMs: 30_000,
      answers: async () => (await client.ping()).toString() === "OK",
      startTimeoutMs: 60_000,
      signal,
    });
  };
  let engine: ServiceProcess;
  try {
    engine = await ServiceProcess.start(start);
  } catch (error) {
    await removeTraces(directory, controlGroup);
    throw error;
  }
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= stopEngine(engine, socket).then(() => removeTraces(directory, controlGroup));
    return stopping;
  };
  return {
    url: `unix://${socket}`,
    get pid() {
      return engine.pid;
    },
    stop,
    kill: () => engine.kill(),
    restart: () => engine.restart(),
    signal: (name) => engine.signal(name),
    [Symbol.asyncDispose]: stop,
  };
}

function engineConfiguration(directory: string, controlGroup: string): object {
  const gvisor = findProgram("runsc");
  return {
    "data-root": join(directory, "data"),
    "exec-root": join(directory, "exec"),
    pidfile: join(directory, "dockerd.pid"),
    "deprecated-key-path": join(directory, "key.json"),
    "cgroup-parent": `/${controlGroup}`,
    bridge: "none",
    iptables: false,
    "ip-forward": false,
    "ip-masq": false,
    group: String(process.getgid?.() ?? 0),
    "raw-logs": true,
    runtimes: gvisor === null ? {} : { runsc: { path: gvisor, runtimeArgs: gvisorArguments } },
  };
}

async function stopEngine(engine: ServiceProcess, socket: string): Promise<void> {
  // A suspended engine would not answer.
  await engine.signal("SIGCONT");
  await removeContainers(socket).catch(() => {
    // The engine does not answer: what it leaves is ended by `removeTraces`.
  });
  await engine.stop();
}

/** Ends and removes what an engine left, in whatever way it ended. */
async function removeTraces(directory: string, controlGroup: string): Promise<void> {
  // containerd and the shims of containers, which are told its socket by their command line.
  await killMentioning(join(directory, "exec"));
  await unmountBelow(directory);
  await removeControlGroups(controlGroup);
  for (const stray of strayDirectories) {
    // Only empty ones go: another engine may use them.
    await capture(asRoot(["rmdir", stray]));
  }
}

/** Paused containers too, which an engine that is told to end would wait for. */
async function removeContainers(socket: string): Promise<void> {
  const client = new Dockerode({ socketPath: socket, timeout: removalTimeoutMs });
  const containers = await client.listContainers({ all: true });
  await Promise.all(containers.map(({ Id }) => client.getContainer(Id).remove({ force: true, v: true })));
}
