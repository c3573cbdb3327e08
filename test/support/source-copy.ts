import { cp, mkdir, readdir, readlink, symlink } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { repositoryRoot } from "../../infra/setup/paths.ts";
import { capture, run } from "../../infra/setup/run-command.ts";

/** A patch that does not apply. */
export class PatchError extends Error {}

/** The files that git knows, as they are, with the packages that they need and the programs that set-up built. */
export async function copySources(to: string): Promise<void> {
  const files = (await run(["git", "ls-files"], { cwd: repositoryRoot })).trim().split("\n");
  for (const file of files) {
    await mkdir(join(to, dirname(file)), { recursive: true });
    await cp(join(repositoryRoot, file), join(to, file));
  }
  const built = "packages/sandbox/dist";
  await cp(join(repositoryRoot, built), join(to, built), { recursive: true });
  await linkPackages(join(repositoryRoot, "node_modules"), join(to, "node_modules"), to);
  for (const group of ["apps", "packages"]) {
    for (const name of await readdir(join(repositoryRoot, group))) {
      const from = join(repositoryRoot, group, name, "node_modules");
      const packages = await readdir(from).catch(() => []);
      if (packages.length > 0) await symlink(from, join(to, group, name, "node_modules"));
    }
  }
}

/** Every package by a link, and those of this repository by one into the copy. */
async function linkPackages(from: string, to: string, copy: string): Promise<void> {
  await mkdir(join(to, "@longshore"), { recursive: true });
  for (const name of await readdir(from)) {
    if (name !== "@longshore") await symlink(join(from, name), join(to, name));
  }
  for (const name of await readdir(join(from, "@longshore"))) {
    const target = resolve(from, "@longshore", await readlink(join(from, "@longshore", name)));
    await symlink(target.replace(repositoryRoot, copy), join(to, "@longshore", name));
  }
}

/** Applies a patch to a copy. What stands around a change may change: the lines that are taken out have to be there. */
export async function patchSources(copy: string, patch: string): Promise<void> {
  const { status, output } = await capture(["git", "apply", "--whitespace=nowarn", "-C0", patch], {
    cwd: copy,
  });
  if (status !== 0) throw new PatchError(output);
}
