import { spawn } from "node:child_process";
import { once } from "node:events";
import { chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** As the user range of the workers begins. */
const USER = 200_000;

export interface DockerRunOptions {
  readonly image: string;
  /** `DOCKER_HOST` */
  readonly engine: string;
  /** For the session directory; every user can pass it. */
  readonly directory: string;
}

/**
 * The command that is compared with, without the session directory of one run. With a private cgroup namespace, as the
 * sandboxes have and Docker's default is with cgroup version 2, since agents act by the limits that they see.
 */
export function dockerRunCommand(image: string, session: string): string[] {
  return [
    ..."docker run --rm --interactive --init --read-only --network none --cap-drop ALL".split(" "),
    ..."--security-opt no-new-privileges --memory 1g --memory-swap 1g --cpus 1 --pids-limit 256".split(" "),
    ..."--cgroupns private".split(" "),
    ..."--tmpfs /tmp --log-driver none --workdir /session/workspace --env HOME=/session/home".split(" "),
    ...["--user", `${USER}:${USER}`, "--volume", `${session}:/session`, image],
  ];
}

/**
 * What a worker's cold turn is compared with: `docker run` of the same image with the same limits, and
 * `initialize` and `session/new` by hand. Gives the milliseconds until the agent could take a prompt.
 */
export async function timeDockerRun({ image, engine, directory }: DockerRunOptions): Promise<number> {
  const session = await mkdtemp(join(directory, "docker-run-"));
  for (const name of ["", "workspace", "home", "inbox", "outbox"]) {
    await mkdir(join(session, name), { recursive: true });
    await chown(join(session, name), USER, USER);
  }
  const start = performance.now();
  const [program = "", ...args] = dockerRunCommand(image, session);
  const child = spawn(program, args, {
    env: { ...process.env, DOCKER_HOST: engine },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  try {
    const answers = createInterface(child.stdout)[Symbol.asyncIterator]();
    const request = async (id: number, method: string, params: object) => {
      child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
      const { value, done } = await answers.next();
      const answer = done
        ? undefined
        : (JSON.parse(value) as { readonly id?: number; readonly error?: unknown });
      if (answer?.id !== id || answer.error !== undefined) throw new Error(`${method} failed: ${value}`);
    };
    await request(1, "initialize", { protocolVersion: 1, clientCapabilities: {} });
    await request(2, "session/new", { cwd: "/session/workspace", mcpServers: [] });
    return performance.now() - start;
  } finally {
    child.stdin.end();
    child.kill("SIGTERM");
    await ended;
    await rm(session, { recursive: true, force: true });
  }
}
