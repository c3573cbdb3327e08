import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { RuntimeUnavailableError } from "../errors.ts";

const DIRECTORIES = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];

/** Programs of the host that a sandbox needs. */
export interface HostTools {
  readonly bwrap: string;
  readonly shell: string;
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
  };
  if (problems.length > 0) throw new RuntimeUnavailableError("bwrap", problems);
  return tools;
}

/** Where a program of the host is; a worker's PATH may lack what only root uses. */
export function locateProgram(program: string): string | undefined {
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
