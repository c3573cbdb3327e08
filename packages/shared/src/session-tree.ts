import { constants, type Stats } from "node:fs";
import {
  chmod,
  type FileHandle,
  lchown,
  lstat,
  lutimes,
  mkdir,
  open,
  opendir,
  readlink,
  rename,
  rmdir,
  symlink,
  unlink,
} from "node:fs/promises";
import { CREATE_FLAGS, DirectoryDescriptor, NAME_FLAGS, READ_FLAGS } from "./session-tree-directory.ts";
import {
  errnoOf,
  PathExistsError,
  TreeLimitError,
  treeErrorOf,
  UnsafePathError,
} from "./session-tree-errors.ts";
import { showPath, splitTreePath, type TreePath } from "./session-tree-paths.ts";
import { removeTree } from "./session-tree-remove.ts";

/** Host user and group that own what is made. */
export interface TreeOwner {
  readonly uid: number;
  readonly gid: number;
}

/** What an entry of a directory is. `other`: FIFO, socket or device. */
export type TreeEntryType = "file" | "directory" | "link" | "other";

export interface TreeEntry {
  readonly name: Buffer;
  readonly type: TreeEntryType;
}

/** A regular file, open. The caller closes `handle`. */
export interface OpenTreeFile {
  readonly handle: FileHandle;
  /** Of the open file itself: nobody can exchange it any more. */
  readonly stats: Stats;
}

export interface CreateOptions {
  /** Permission bits; set-id and sticky bits are dropped. @default 0o644 for files, 0o755 for directories */
  readonly mode?: number;
  /** @default the process' own user and group */
  readonly owner?: TreeOwner;
}

export interface CreateFileOptions extends CreateOptions {
  /** True: a `PathExistsError` where something stands; false: an old file or link is removed first. @default false */
  readonly exclusive?: boolean;
}

/** How often a name that reappears under our hands is removed again before we give up. */
const REPLACE_ATTEMPTS = 16;

/**
 * The only way in which the host touches a session tree (invariant I8).
 *
 * Whoever wrote the tree is hostile, and may go on renaming in it while we work: a directory becomes a link to
 * `/etc` between two system calls. So each path is walked as a chain of descriptors, one per part, none of them
 * through a link, and the last part is used with operations that do not follow one either (`DirectoryDescriptor`).
 * An attacker can make an operation fail, or make it happen in another place *of the tree*; never outside.
 *
 * Paths are relative to the root, in bytes (`TreePath`). Every method throws `UnsafePathError`,
 * `PathNotFoundError`, `PathExistsError` or `TreeIoError`; operations after `close` throw `TreeIoError` `EBADF`.
 */
export class SessionTree {
  readonly #root: DirectoryDescriptor;
  #running = 0;
  #closed = false;

  private constructor(root: DirectoryDescriptor) {
    this.#root = root;
  }

  /** Opens a tree by the path of its root, which the host made and trusts; its last part must not be a link. */
  static open(path: string): SessionTree {
    try {
      return new SessionTree(DirectoryDescriptor.openRoot(path));
    } catch (error) {
      throw treeErrorOf(path, error);
    }
  }

  /**
   * Opens a regular file for reading.
   *
   * @param options.singleLink refuse a file with more than one name: for what leaves the session (replies)
   * @throws UnsafePathError `not-a-file` for FIFOs, sockets, devices, directories; `hard-link`
   */
  openFile(path: TreePath, options: { readonly singleLink?: boolean } = {}): Promise<OpenTreeFile> {
    return this.#at(path, async (parent, name) => {
      const handle = await open(parent.entry(name), READ_FLAGS);
      try {
        const stats = await handle.stat();
        if (!stats.isFile())
          throw new UnsafePathError(showPath(path), "not-a-file", "it is not a regular file");
        if (options.singleLink === true && stats.nlink !== 1) {
          throw new UnsafePathError(showPath(path), "hard-link", `it has ${stats.nlink} names`);
        }
        return { handle, stats };
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  /**
   * Reads a regular file whole.
   *
   * @param options.maxBytes refuse a longer one with `TreeLimitError`, also one that grows while it is read
   */
  async readFile(
    path: TreePath,
    options: { readonly maxBytes: number; readonly singleLink?: boolean },
  ): Promise<Buffer> {
    const { handle, stats } = await this.openFile(path, options);
    try {
      if (stats.size > options.maxBytes) throw new TreeLimitError(showPath(path), options.maxBytes, "bytes");
      const parts: Buffer[] = [];
      let total = 0;
      for (;;) {
        const part = Buffer.allocUnsafe(Math.min(64 * 1024, options.maxBytes + 1 - total));
        const { bytesRead } = await handle.read(part, 0, part.length, total);
        if (bytesRead === 0) return Buffer.concat(parts, total);
        total += bytesRead;
        if (total > options.maxBytes) throw new TreeLimitError(showPath(path), options.maxBytes, "bytes");
        parts.push(part.subarray(0, bytesRead));
      }
    } finally {
      await handle.close();
    }
  }

  /** Makes a new, empty file and opens it for writing; the caller closes it. It never writes into a file that stood there. */
  createFile(path: TreePath, options: CreateFileOptions = {}): Promise<FileHandle> {
    return this.#at(path, async (parent, name) => {
      const handle = await this.#createNew(parent.entry(name), path, options.exclusive ?? false);
      try {
        if (options.owner !== undefined) await handle.chown(options.owner.uid, options.owner.gid);
        await handle.chmod((options.mode ?? 0o644) & 0o777);
        return handle;
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  /** Makes a file with the given content (`createFile`). A failure may leave a shorter file. */
  async writeFile(path: TreePath, content: Uint8Array, options: CreateFileOptions = {}): Promise<void> {
    const handle = await this.createFile(path, options);
    try {
      await handle.writeFile(content);
    } catch (error) {
      throw treeErrorOf(showPath(path), error);
    } finally {
      await handle.close();
    }
  }

  /**
   * The entries of a directory, in no order.
   *
   * @param path the directory, or "." for the root
   * @param options.limit refuse a directory of more entries with `TreeLimitError`. @default 100,000
   */
  list(path: TreePath, options: { readonly limit?: number } = {}): Promise<TreeEntry[]> {
    const limit = options.limit ?? 100_000;
    return this.#inDirectory(path, async (directory) => {
      const entries: TreeEntry[] = [];
      for await (const entry of await opendir(directory.path, { encoding: "latin1", bufferSize: 256 })) {
        if (entries.length === limit) throw new TreeLimitError(showPath(path), limit, "entries");
        entries.push({ name: Buffer.from(entry.name, "latin1"), type: typeOf(entry) });
      }
      return entries;
    });
  }

  /** What stands at the path; a link is not followed. */
  lstat(path: TreePath): Promise<Stats> {
    return this.#at(path, (parent, name) => lstat(parent.entry(name)));
  }

  /**
   * Makes a directory.
   *
   * @param options.recursive make missing parents too (with the same mode and owner), and accept a directory that
   *   is there already; its mode and owner are left as they are. @default false
   */
  makeDirectory(
    path: TreePath,
    options: CreateOptions & { readonly recursive?: boolean } = {},
  ): Promise<void> {
    const make = async (parent: DirectoryDescriptor, name: Buffer): Promise<void> => {
      await mkdir(parent.entry(name), { mode: 0o700 });
      // Whoever swaps the new directory for another one here has that one's mode changed: also theirs.
      const made = await open(
        parent.entry(name),
        constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
      );
      try {
        if (options.owner !== undefined) await made.chown(options.owner.uid, options.owner.gid);
        await made.chmod((options.mode ?? 0o755) & 0o777);
      } finally {
        await made.close();
      }
    };
    if (options.recursive !== true) return this.#at(path, make);
    return this.#use(path, async () => {
      let current = this.#root;
      try {
        for (const name of splitTreePath(path)) {
          let next: DirectoryDescriptor;
          try {
            next = current.openDirectory(name);
          } catch (error) {
            if (errnoOf(error) !== "ENOENT") throw error;
            await make(current, name).catch((cause: unknown) => {
              if (errnoOf(cause) !== "EEXIST") throw cause;
            });
            next = current.openDirectory(name);
          }
          if (current !== this.#root) current.close();
          current = next;
        }
      } finally {
        if (current !== this.#root) current.close();
      }
    });
  }

  /** Makes a symbolic link with any target: nothing here ever follows it. */
  symlink(target: TreePath, path: TreePath, options: { readonly owner?: TreeOwner } = {}): Promise<void> {
    return this.#at(path, async (parent, name) => {
      await symlink(target, parent.entry(name));
      if (options.owner !== undefined) await lchown(parent.entry(name), options.owner.uid, options.owner.gid);
    });
  }

  /** The target of a symbolic link, in bytes. */
  readlink(path: TreePath): Promise<Buffer> {
    return this.#at(path, (parent, name) => readlink(parent.entry(name), { encoding: "buffer" }));
  }

  /** Renames within the tree; a file, a link or an empty directory at the new name is replaced, as by `rename(2)`. */
  rename(from: TreePath, to: TreePath): Promise<void> {
    return this.#at(from, (fromParent, fromName) =>
      this.#at(to, (toParent, toName) => rename(fromParent.entry(fromName), toParent.entry(toName))),
    );
  }

  /**
   * Removes a file, a link or an empty directory; with `recursive` a directory and all below it. That has a
   * bounded number of open descriptors however deep the tree is, and yields to the event loop.
   *
   * @param options.missingOk do nothing where nothing stands. @default false
   */
  async remove(
    path: TreePath,
    options: {
      readonly recursive?: boolean;
      readonly missingOk?: boolean;
      readonly signal?: AbortSignal;
    } = {},
  ): Promise<void> {
    try {
      await this.#at(path, async (parent, name) => {
        if (options.recursive === true) await removeTree(parent, name, options.signal);
        else if ((await lstat(parent.entry(name))).isDirectory()) await rmdir(parent.entry(name));
        else await unlink(parent.entry(name));
      });
    } catch (error) {
      if (options.missingOk !== true || !(error instanceof Error) || !("code" in error)) throw error;
      if (error.code !== "PATH_NOT_FOUND") throw error;
    }
  }

  /** Changes permission bits of a file or directory; a link is refused. Set-id and sticky bits are dropped. */
  chmod(path: TreePath, mode: number): Promise<void> {
    return this.#at(path, async (parent, name) => {
      // chmod(2) follows links, and its variant that does not is not supported: name the inode, look, then change it.
      const named = await open(parent.entry(name), NAME_FLAGS);
      try {
        const stats = await named.stat();
        if (!stats.isFile() && !stats.isDirectory()) {
          throw new UnsafePathError(
            showPath(path),
            stats.isSymbolicLink() ? "link" : "not-a-file",
            "it has no mode",
          );
        }
        await chmod(`/proc/self/fd/${named.fd}`, mode & 0o777);
      } finally {
        await named.close();
      }
    });
  }

  /** Changes the owner of whatever stands at the path, of a link itself. */
  chown(path: TreePath, owner: TreeOwner): Promise<void> {
    return this.#at(path, (parent, name) => lchown(parent.entry(name), owner.uid, owner.gid));
  }

  /** Sets access and modification time, in seconds since 1970 (exact to the microsecond), of a link itself. */
  utimes(path: TreePath, accessed: number, modified: number): Promise<void> {
    return this.#at(path, (parent, name) => lutimes(parent.entry(name), accessed, modified));
  }

  /** Lets go of the tree once the operations that run have ended; later ones are refused. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#running === 0) this.#root.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #createNew(entry: Buffer, path: TreePath, exclusive: boolean): Promise<FileHandle> {
    for (let attempt = 0; attempt < REPLACE_ATTEMPTS; attempt++) {
      try {
        return await open(entry, CREATE_FLAGS, 0o600);
      } catch (error) {
        if (errnoOf(error) !== "EEXIST") throw error;
        if (exclusive) throw new PathExistsError(showPath(path), error);
      }
      await unlink(entry).catch((error: unknown) => {
        if (errnoOf(error) !== "ENOENT") throw error;
      });
    }
    throw new UnsafePathError(showPath(path), "racing", "it is made again as often as it is removed");
  }

  /** Runs an operation on the last part of a path, below the descriptor of its parent. */
  #at<T>(path: TreePath, operation: (parent: DirectoryDescriptor, name: Buffer) => Promise<T>): Promise<T> {
    return this.#use(path, async () => {
      const names = splitTreePath(path);
      const name = names.pop();
      if (name === undefined) throw new UnsafePathError(showPath(path), "malformed", "the path is empty");
      return await this.#walk(names, (parent) => operation(parent, name));
    });
  }

  #inDirectory<T>(path: TreePath, operation: (directory: DirectoryDescriptor) => Promise<T>): Promise<T> {
    return this.#use(path, () => {
      const names = path === "." ? [] : splitTreePath(path);
      return this.#walk(names, operation);
    });
  }

  async #walk<T>(
    names: readonly Buffer[],
    operation: (directory: DirectoryDescriptor) => Promise<T>,
  ): Promise<T> {
    let current = this.#root;
    try {
      for (const name of names) {
        const next = current.openDirectory(name);
        if (current !== this.#root) current.close();
        current = next;
      }
      return await operation(current);
    } finally {
      if (current !== this.#root) current.close();
    }
  }

  /** Counts an operation, so that the root's number is not closed, and given to another file, under it. */
  async #use<T>(path: TreePath, operation: () => Promise<T>): Promise<T> {
    if (this.#closed) throw treeErrorOf(showPath(path), closedError());
    this.#running++;
    try {
      return await operation();
    } catch (error) {
      throw treeErrorOf(showPath(path), error);
    } finally {
      this.#running--;
      if (this.#closed && this.#running === 0) this.#root.close();
    }
  }
}

function closedError(): Error {
  return Object.assign(new Error("the session tree is closed"), { code: "EBADF", syscall: "open" });
}

function typeOf(entry: {
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}): TreeEntryType {
  if (entry.isFile()) return "file";
  if (entry.isDirectory()) return "directory";
  return entry.isSymbolicLink() ? "link" : "other";
}
