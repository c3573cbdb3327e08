import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { RuntimeUnavailableError } from "../errors.ts";

const DIRECTORIES = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];

/** Programs of the host that start a sandbox: bubblewrap, a shell, and two of util-linux. */
export interface HostTools {
  readonly bwrap: string;
  readonly shell: string;
  /** Undefined where it is missing; needed only when the worker was started with many open descriptors. */
  readonly bash: string | undefined;
  readonly setpriv: string;
  readonly prlimit: string;
}

/** @throws RuntimeUnavailableError that names every missing program and its Debian package */
export function findHostTools(): HostTools {
  const problems: string[] = [];
  const find = (program: string, debianPackage: string): string => {
    const path = locateProgram(program);
    if (path === undefined) problems.push(`${program} is missing: install the package ${debianPackage}`);
    return path ?? program;
  };
  const tools = {
    bwrap: find("bwrap", "bubblewrap"),
    shell: find("sh", "dash"),
    bash: locateProgram("bash"),
    setpriv: find("setpriv", "util-linux"),
    prlimit: find("prlimit", "util-linux"),
  };
  if (problems.length > 0) throw new RuntimeUnavailableError("bwrap", problems);
  return tools;
}

function locateProgram(program: string): string | undefined {
  return DIRECTORIES.map((directory) => join(directory, program)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
