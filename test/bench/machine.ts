import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, release, tmpdir, totalmem } from "node:os";
import { debianPath } from "../../infra/setup/programs.ts";

/** How each program that takes part tells its version. */
const programs = [
  "rclone version",
  "restic version",
  "aws --version",
  "radosgw --version",
  "docker --version",
];

/** The machine and the programs of a measurement, in a few lines for a page. */
export function describeMachine(): string {
  const system = /^PRETTY_NAME="?(.*?)"?$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "Linux";
  const versions = [`Node.js ${process.version}`, ...programs.map(versionOf)].filter(
    (line) => line !== undefined,
  );
  return [
    `- ${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} processors (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${system}, Linux ${release()}`,
    `- directories on ${firstLineOf(`stat --file-system --format %T ${tmpdir()}`)}, services on the same machine`,
    `- ${versions.join("; ")}`,
  ].join("\n");
}

/** Undefined for a program that is not there. */
function versionOf(command: string): string | undefined {
  try {
    return firstLineOf(command);
  } catch {
    return undefined;
  }
}

function firstLineOf(command: string): string | undefined {
  const [program = "", ...args] = command.split(" ");
  // As the peers are run: without what this machine has of its own.
  const output = execFileSync(program, args, {
    encoding: "utf8",
    env: { PATH: debianPath },
    stdio: ["ignore", "pipe", "ignore"],
  });
  return output.split("\n")[0];
}
