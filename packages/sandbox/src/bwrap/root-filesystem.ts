import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { SandboxSpecError } from "../errors.ts";

/** Top-level names that the sandbox has of its own. */
const OWN_DIRECTORIES = new Set(["proc", "dev", "sys", "tmp", "run", "session"]);

/** What programs need of `/etc` and what tells nothing of the host. */
const HOST_FILES = [
  "/etc/alternatives",
  "/etc/ca-certificates",
  "/etc/ld.so.cache",
  "/etc/ld.so.conf",
  "/etc/ld.so.conf.d",
  "/etc/localtime",
  "/etc/mime.types",
  "/etc/nsswitch.conf",
  "/etc/os-release",
  "/etc/protocols",
  "/etc/services",
  "/etc/ssl/certs",
  "/etc/timezone",
];
const HOST_LINKS = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/**
 * The options that build the sandbox's read-only root from a directory, or from the host's system paths.
 * @throws SandboxSpecError when the directory can't be read or holds no `/usr` or `/bin`
 */
export function rootOptions(rootfs: string): string[] {
  if (rootfs === "host") {
    const links = topLevelOptions("/", HOST_LINKS);
    return [
      "--ro-bind",
      "/usr",
      "/usr",
      ...links,
      ...HOST_FILES.flatMap((path) => ["--ro-bind-try", path, path]),
    ];
  }
  let names: string[];
  try {
    names = readdirSync(rootfs).filter((name) => !OWN_DIRECTORIES.has(name));
  } catch (error) {
    throw new SandboxSpecError("rootfs", `${rootfs} can't be read: ${(error as Error).message}`);
  }
  if (!names.includes("usr") && !names.includes("bin")) {
    throw new SandboxSpecError("rootfs", `${rootfs} is no unpacked image: it has neither usr nor bin`);
  }
  return topLevelOptions(rootfs, names);
}

/** One bind for each top-level entry, so that mount points can be made in a root of our own. */
function topLevelOptions(root: string, names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const target = linkTarget(join(root, name));
    return target === undefined
      ? ["--ro-bind-try", join(root, name), `/${name}`]
      : ["--symlink", target, `/${name}`];
  });
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
