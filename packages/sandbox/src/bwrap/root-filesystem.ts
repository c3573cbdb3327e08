import { lstatSync, readdirSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";
import { type AccessRule, errnoOf } from "@longshore/shared";
import { type Covers, hiddenPaths } from "../access-mounts.ts";
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
    return ["--ro-bind", "/usr", "/usr", ...links, ...HOST_FILES.flatMap(hostFileOptions)];
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

/** What leads to what is shown stays a link: bound, it would be there once more, and not hidden with it. */
function hostFileOptions(path: string): string[] {
  const target = linkTarget(path);
  const found = target === undefined ? undefined : findWithin("/", path);
  return target !== undefined && found !== undefined && isShown("host", found.path)
    ? ["--symlink", target, path]
    : ["--ro-bind-try", path, path];
}

/**
 * The options that hide what a policy denies of the root, over what is there: links are followed within it, as the sandbox
 * would follow them, so that what they lead to is hidden, too. What is not there needs nothing in a root that nobody can write.
 * @throws SandboxSpecError where a directory is to be hidden like a file, or a file like a directory
 */
export function coverOptions(rootfs: string, rules: readonly AccessRule[], covers: Covers): string[] {
  return hiddenPaths(rules).flatMap(({ path, isDirectory }) => {
    const found = findWithin(rootfs === "host" ? "/" : rootfs, path);
    if (found === undefined) return [];
    // A link of the host that leads to what is not shown is bound as a file.
    const isBound = rootfs === "host" && HOST_FILES.includes(path) && !isShown(rootfs, found.path);
    const target = isBound ? path : found.path;
    if (!isShown(rootfs, target)) return [];
    if (found.status.isDirectory() !== isDirectory) {
      const allowed = isDirectory ? `${path}, without a slash: it is a file` : `${path}/: it is a directory`;
      throw new SandboxSpecError("access", allowed);
    }
    return ["--ro-bind", isDirectory ? covers.directory : covers.file, target];
  });
}

function isShown(rootfs: string, path: string): boolean {
  const top = path.split("/")[1] ?? "";
  if (rootfs !== "host") return !OWN_DIRECTORIES.has(top);
  return ["/usr", ...HOST_FILES].some((shown) => `${path}/`.startsWith(`${shown}/`));
}

/** As the kernel does (path_resolution(7)). */
const LINKS_MAX = 40;

/** What a path comes to where `root` is the root; undefined where nothing is there. */
function findWithin(root: string, path: string): { path: string; status: Stats } | undefined {
  const left = path.split("/").filter(Boolean);
  let found: string[] = [];
  let status: Stats | undefined;
  for (let links = 0; left.length > 0; ) {
    const name = left.shift() as string;
    if (name === ".") continue;
    if (name === "..") {
      found = found.slice(0, -1);
      continue;
    }
    const here = join(root, ...found, name);
    try {
      status = lstatSync(here);
      if (!status.isSymbolicLink()) {
        found.push(name);
        continue;
      }
      if (++links > LINKS_MAX) return undefined;
      const target = readlinkSync(here);
      if (target.startsWith("/")) found = [];
      left.unshift(...target.split("/").filter(Boolean));
    } catch (error) {
      if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
      throw error;
    }
  }
  const final = `/${found.join("/")}`;
  return status === undefined ? undefined : { path: final, status: lstatSync(join(root, final)) };
}

/** One bind for each top-level entry, so that mount points can be made in a root of our own. What is empty needs none. */
function topLevelOptions(root: string, names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const path = join(root, name);
    const target = linkTarget(path);
    if (target !== undefined) return ["--symlink", target, `/${name}`];
    return isEmptyDirectory(path) ? ["--dir", `/${name}`] : ["--ro-bind-try", path, `/${name}`];
  });
}

function isEmptyDirectory(path: string): boolean {
  try {
    return readdirSync(path).length === 0;
  } catch {
    return false;
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
