import { closeSync, constants, openSync, readlinkSync } from "node:fs";

/** Where the process' own descriptors are. Not through `/proc/self`: one link less to resolve in each operation. */
const DESCRIPTORS = `/proc/${readlinkSync("/proc/self")}/fd`;

/** Linux' `O_PATH`: names a file without opening it. Not among `node:fs`' constants; the same on every architecture. */
const O_PATH = 0o10000000;

const DIRECTORY_FLAGS = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Flags with which the last part of a path is opened for reading: no link, no waiting for a FIFO's other end. */
export const READ_FLAGS =
  constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

/** Flags with which a file is made: it must not exist, so nothing that an agent made is ever opened for writing. */
export const CREATE_FLAGS =
  constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_NOCTTY;

/** Flags that name whatever stands at a path, a link included, without opening it. */
export const NAME_FLAGS = O_PATH | constants.O_NOFOLLOW;

const NOT_ASCII = /[\u0080-\u00ff]/;

/**
 * An open directory of a session tree: the only thing through which its entries are named (I8).
 *
 * A path of names can be turned into a way out of the tree by whoever may rename in it, at any moment between
 * a check and a use. A descriptor can't: it stays the same directory wherever that is moved. So every operation
 * addresses exactly one name below one descriptor, as `/proc/<process>/fd/<descriptor>/<name>`, with an operation that
 * does not follow a link in the last part.
 *
 * All methods are synchronous, cheap (microseconds) and throw the errors of `node:fs`. Descriptors belong to the
 * process: one may be used in any thread of it until it is closed.
 */
export class DirectoryDescriptor {
  readonly fd: number;
  /** Names the directory itself, for `readdir`. */
  readonly path: string;
  readonly #prefix: string;

  private constructor(fd: number) {
    this.fd = fd;
    this.path = `${DESCRIPTORS}/${fd}`;
    this.#prefix = `${this.path}/`;
  }

  /** Opens the root of a tree by a path the host trusts up to its last part, which must not be a link. */
  static openRoot(path: string): DirectoryDescriptor {
    return new DirectoryDescriptor(openSync(path, DIRECTORY_FLAGS));
  }

  /** Uses a descriptor that somebody else opened and closes: a thread that was handed a number. */
  static borrow(fd: number): DirectoryDescriptor {
    return new DirectoryDescriptor(fd);
  }

  /** The path that names one entry; valid while this descriptor is open. */
  entry(name: Buffer): Buffer {
    return Buffer.concat([Buffer.from(this.#prefix), name]);
  }

  /** The same for a name given as a string with one character per byte (Latin-1): cheaper, for whole trees. */
  entryOfBytes(name: string): string | Buffer {
    return NOT_ASCII.test(name) ? this.entry(Buffer.from(name, "latin1")) : this.#prefix + name;
  }

  /** Opens a directory below this one; a link there is refused with `ENOTDIR`. */
  openDirectory(name: Buffer): DirectoryDescriptor {
    return new DirectoryDescriptor(openSync(this.entry(name), DIRECTORY_FLAGS));
  }

  /** The same for a name given as a string with one character per byte. */
  openDirectoryOfBytes(name: string): DirectoryDescriptor {
    return new DirectoryDescriptor(openSync(this.entryOfBytes(name), DIRECTORY_FLAGS));
  }

  close(): void {
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
