import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { repositoryRoot } from "./paths.ts";

interface LockedPackage {
  readonly optional?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface LockFile {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

// `npm install` leaves packages for other machines out when it can't get them, and `npm ci` then refuses the
// lock file on every machine. A version of the tool whose packages are all to be had is the way out.
// What only an optional package asks for may be missing.
it.each([
  "package-lock.json",
  "infra/images/agent-claude/package-lock.json",
  "infra/images/agent-opencode/package-lock.json",
])("%s holds the packages for every platform", async (file) => {
  const text = await readFile(join(repositoryRoot, file), "utf8");
  const { packages } = JSON.parse(text) as LockFile;
  const missing = Object.entries(packages).flatMap(([path, entry]) =>
    Object.keys(entry.optional ? {} : (entry.optionalDependencies ?? {})).filter(
      (name) => !(`node_modules/${name}` in packages) && !(`${path}/node_modules/${name}` in packages),
    ),
  );
  expect(missing).toEqual([]);
});
