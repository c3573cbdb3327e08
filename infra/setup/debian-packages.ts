import { existsSync } from "node:fs";
import { SetupError } from "./errors.ts";
import { asRoot } from "./privilege.ts";
import { debianPath, findProgram } from "./programs.ts";
import { run } from "./run-command.ts";
import type { SetupContext } from "./setup-context.ts";

interface Requirement {
  readonly packages: readonly string[];
  readonly otherwise: string;
  /** Where it has to be. @default PATH */
  readonly path?: string;
  /** A file that tells that it is there, where it is no program. */
  readonly file?: string;
}

/** What set-up runs or builds with, with the Debian packages that bring it and the way to do without them. */
const requirements = {
  "redis-server": { packages: ["redis-server"], otherwise: "name a Redis by REDIS_URL" },
  "redis-cli": { packages: ["redis-tools"], otherwise: "install Redis" },
  radosgw: {
    packages: ["radosgw", "ceph-mon", "ceph-osd", "ceph-base", "ceph-common"],
    otherwise: "name an S3 server by S3_ENDPOINT, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
  },
  dockerd: { packages: ["docker.io"], otherwise: "name an engine by DOCKER_HOST" },
  podman: { packages: ["podman", "runc"], otherwise: "install Podman" },
  runsc: { packages: ["runsc"], otherwise: "install gVisor" },
  "musl-gcc": { packages: ["musl-tools"], otherwise: "install musl and its compiler wrapper" },
  sqlite3: {
    packages: ["gcc", "libc6-dev", "libsqlite3-dev"],
    otherwise: "install a C compiler and the static library of SQLite",
    file: "/usr/include/sqlite3.h",
  },
  clang: { packages: ["clang", "libclang-rt-14-dev"], otherwise: "install clang and its runtime" },
  "mkfs.ext4": { packages: ["e2fsprogs"], otherwise: "install e2fsprogs" },
  bwrap: { packages: ["bubblewrap"], otherwise: "install bubblewrap" },
  mmdebstrap: { packages: ["mmdebstrap"], otherwise: "run on Debian or Ubuntu" },
  promtool: { packages: ["prometheus"], otherwise: "install Prometheus" },
  rclone: { packages: ["rclone"], otherwise: "install rclone" },
  restic: { packages: ["restic"], otherwise: "install restic" },
  // A version manager of Python may have another one of that name in PATH, behind a wrapper that takes its time.
  aws: { packages: ["awscli"], otherwise: "install the AWS command line", path: debianPath },
  setpriv: { packages: ["util-linux"], otherwise: "install util-linux" },
} as const satisfies Readonly<Record<string, Requirement>>;

/** A program that set-up knows how to bring. */
export type KnownProgram = keyof typeof requirements;

/**
 * Installs what is missing: one `apt-get update` and one `apt-get install`, and neither when all is
 * there. Installing starts no daemon: set-up runs private instances only.
 *
 * @throws {SetupError} `SETUP_PROGRAM_MISSING` where there is no apt, with the way to get each elsewhere;
 * `SETUP_COMMAND_FAILED` with apt's words when it fails.
 */
export async function installPrograms(
  programs: readonly KnownProgram[],
  context: SetupContext,
): Promise<void> {
  const missing = programs.filter((name) => find(name) === null);
  if (missing.length === 0) {
    return;
  }
  if (findProgram("apt-get") === null) {
    const ways = missing.map((name) => `${name}: ${requirements[name].otherwise}`);
    throw new SetupError(
      "SETUP_PROGRAM_MISSING",
      `missing on this machine, which has no apt to install it with:\n  ${ways.join("\n  ")}`,
    );
  }
  const packages = missing.flatMap((name) => requirements[name].packages);
  context.report(`installing ${packages.join(" ")}`);
  await run(asRoot(["sh", "-c", installScript, "sh", ...packages]), { signal: context.signal });
}

/**
 * The path of an installed program.
 *
 * @throws {SetupError} `SETUP_PROGRAM_MISSING` with the packages that bring it.
 */
export function requireProgram(name: KnownProgram): string {
  const path = find(name);
  if (path === null) {
    const { packages, otherwise } = requirements[name];
    throw new SetupError(
      "SETUP_PROGRAM_MISSING",
      `${name} is not installed; Debian's ${packages.join(", ")} would bring it; or ${otherwise}`,
    );
  }
  return path;
}

function find(name: KnownProgram): string | null {
  const { path, file }: Requirement = requirements[name];
  if (file !== undefined) return existsSync(file) ? file : null;
  return findProgram(name, path);
}

/**
 * Packages of services start them when they are installed, unless `policy-rc.d` says no; a policy that
 * the machine has already stays. The lock keeps two set-ups from taking away each other's.
 */
const installScript = `
set -e
exec 9</var/lib/dpkg
flock 9
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\\nexit 101\\n' >"$policy"
  chmod 755 "$policy"
fi
apt-get -qq -o DPkg::Lock::Timeout=300 update 9>&-
apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@" 9>&-
`;
