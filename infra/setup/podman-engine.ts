import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import Dockerode from "dockerode";
import { requireProgram } from "./debian-packages.ts";
import { launch } from "./launch.ts";
import { unmountBelow } from "./mounts.ts";
import { asRoot } from "./privilege.ts";
import type { PrivateServiceOptions } from "./redis.ts";
import { capture } from "./run-command.ts";

/** Podman's service of Docker's API, by itself. */
export interface PodmanEngine extends AsyncDisposable {
  /** `unix:///.../podman.sock`, as `DOCKER_HOST` has it. */
  readonly url: string;
}

/**
 * Starts Podman's service with images and state of its own, which end with it. Containers have no network.
 *
 * @throws {SetupError} where it does not answer
 */
export async function startPodman({ directory, signal }: PrivateServiceOptions): Promise<PodmanEngine> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const socket = join(directory, "podman.sock");
  const places = ["--root", join(directory, "data"), "--runroot", join(directory, "state")];
  // There may be no systemd, which is the default, and crun, which is too, runs with one version of cgroups only.
  const parts = ["--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=file"];
  const podman = [requireProgram("podman"), ...places, ...parts];
  const client = new Dockerode({ socketPath: socket });
  const service = await launch({
    name: "podman",
    command: [...podman, "system", "service", "--time=0", `unix://${socket}`],
    logFile: join(directory, "podman.log"),
    // conmon leaves a file where it is, when memory was short.
    cwd: directory,
    privileged: true,
    signalWithParent: "TERM",
    stopTimeoutMs: 30_000,
    answers: async () => (await client.ping()).toString() === "OK",
    startTimeoutMs: 60_000,
    signal,
  });
  return {
    url: `unix://${socket}`,
    async [Symbol.asyncDispose]() {
      await capture(asRoot([...podman, "rm", "--all", "--force", "--time=0"]));
      await service.stop();
      await unmountBelow(directory);
    },
  };
}
