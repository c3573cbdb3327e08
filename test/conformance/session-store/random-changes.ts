import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  closeSync,
  copyFileSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  type Stats,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import fc from "fast-check";

/** What an agent may do to a tree. Throws errors of the file system where it does not apply to the tree as it is. */
export type Change = (root: string) => void;

/** Few names, so that changes meet each other; some unusual, some no UTF-8. */
const NAMES = [
  "a",
  "b",
  "c",
  "ü\n",
  "x".repeat(255),
  " -rf",
  "d.e",
  Buffer.from([0xff, 0xfe, 0x80]),
  Buffer.from("caf\u00e9", "latin1"),
].map((name) => (typeof name === "string" ? Buffer.from(name) : name));
const TARGETS = ["a", "../../etc", "/etc/passwd", "ü", "nowhere", "y".repeat(1000)].map((to) =>
  Buffer.from(to),
);
TARGETS.push(Buffer.from([0x61, 0xff, 0x2f, 0xc3]));

type Path = readonly Buffer[];
const path: fc.Arbitrary<Path> = fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 3 });

/** From nothing, over what shares a frame, to several chunks. */
const size = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.integer({ min: 0, max: 400_000 }),
  fc.integer({ min: 1_000_000, max: 2_300_000 }),
);
const seconds = fc.integer({ min: -2_000_000_000, max: 4_000_000_000 });
const mode = fc.constantFrom(0o644, 0o600, 0o755, 0o700, 0o444, 0o4755, 0o2644, 0o1777, 0o6711);

/** A change of a tree, of every kind that a mirror has to see. */
export const change: fc.Arbitrary<Change> = fc.oneof(
  weighted(6, fc.record({ at: path, length: size, seed: fc.nat(255) }), ({ at, length, seed }, root) => {
    mkdirSync(placeOf(root, at.slice(0, -1)), { recursive: true });
    writeFileSync(fileOf(root, at), contentOf(length, seed));
  }),
  weighted(2, path, (at, root) => appendFileSync(fileOf(root, at), "appended")),
  weighted(2, fc.tuple(path, size, fc.nat(5000)), ([at, position, length], root) =>
    writeInPlace(fileOf(root, at), position, randomBytes(length)),
  ),
  weighted(1, fc.tuple(path, size), ([at, length], root) => truncateSync(fileOf(root, at), length)),
  weighted(2, path, (at, root) => mkdirSync(placeOf(root, at), { recursive: true })),
  weighted(2, path, (at, root) => rmSync(placeOf(root, at), { recursive: true })),
  weighted(3, fc.tuple(path, path), ([from, to], root) => renameSync(placeOf(root, from), placeOf(root, to))),
  weighted(2, fc.tuple(path, size, fc.nat(255)), ([at, length, seed], root) => {
    const aside = placeOf(root, [Buffer.from("aside")]);
    writeFileSync(aside, contentOf(length, seed));
    try {
      renameSync(aside, placeOf(root, at));
    } finally {
      rmSync(aside, { force: true });
    }
  }),
  weighted(2, fc.tuple(path, path), ([one, other], root) => exchange(root, one, other)),
  weighted(2, fc.tuple(path, fc.nat(255)), ([at, seed], root) => swapType(root, at, seed)),
  weighted(2, fc.tuple(path, mode), ([at, bits], root) => {
    const target = placeOf(root, at);
    const stats = lstatSync(target);
    if (!stats.isSymbolicLink()) chmodSync(target, stats.isDirectory() ? bits | 0o100 : bits);
  }),
  weighted(2, fc.tuple(path, fc.constantFrom(...TARGETS)), ([at, target], root) =>
    symlinkSync(target, placeOf(root, at)),
  ),
  weighted(2, fc.tuple(path, path), ([from, to], root) => linkSync(fileOf(root, from), placeOf(root, to))),
  weighted(2, fc.tuple(path, seconds, fc.nat(999_999)), ([at, s, us], root) =>
    // As a string: a negative number is the time of day to Node.js.
    lutimesSync(placeOf(root, at), 1, String(s + (us + 0.5) / 1e6)),
  ),
  // What Node.js can't set: every nanosecond.
  weighted(1, fc.tuple(path, seconds, fc.nat(999_999_999)), ([at, s, ns], root) => {
    lstatSync(placeOf(root, at));
    runOn(["touch", "-h", "-d", `@${s}.${String(ns).padStart(9, "0")}`], root, at);
  }),
  weighted(1, path, (at, root) => {
    if (look(placeOf(root, at)) === undefined && look(placeOf(root, at.slice(0, -1)))?.isDirectory())
      runOn(["mkfifo"], root, at);
  }),
  weighted(2, fc.tuple(path, path), ([from, to], root) => copyKeepingTimes(root, from, to)),
  weighted(2, path, (at, root) => sneak(placeOf(root, at))),
);

/** A change that does not apply to the tree as it is changes nothing. */
export function attempt(apply: Change, root: string): void {
  try {
    apply(root);
  } catch (error) {
    if (!(error instanceof Error) || !("syscall" in error)) throw error;
  }
}

function weighted<T>(weight: number, values: fc.Arbitrary<T>, apply: (value: T, root: string) => unknown) {
  return {
    weight,
    arbitrary: values.map(
      (value): Change =>
        (root) =>
          void apply(value, root),
    ),
  };
}

function placeOf(root: string, at: Path): Buffer {
  return Buffer.concat([Buffer.from(root), ...at.flatMap((name) => [Buffer.from("/"), name])]);
}

/** The place of a path that is a file or nothing: opening a FIFO would wait for ever, a link would lead elsewhere. */
function fileOf(root: string, at: Path): Buffer {
  const place = placeOf(root, at);
  const stats = look(place);
  return stats === undefined || stats.isFile() ? place : placeOf(root, [Buffer.from("nothing/here")]);
}

function look(place: Buffer): Stats | undefined {
  return lstatSync(place, { throwIfNoEntry: false });
}

/** Half of it repeats, so that chunks and frames are shared; every other one has a half that does not, for packs. */
function contentOf(length: number, seed: number): Buffer {
  const content = Buffer.alloc(length, `seed ${seed} `);
  if (seed % 2 === 0) randomBytes(Math.floor(length / 2)).copy(content);
  return content;
}

function writeInPlace(place: Buffer, position: number, content: Buffer): void {
  const fd = openSync(place, "r+");
  try {
    writeSync(fd, content, 0, content.length, position);
  } finally {
    closeSync(fd);
  }
}

function exchange(root: string, one: Path, other: Path): void {
  lstatSync(placeOf(root, other));
  const aside = placeOf(root, [Buffer.from("aside")]);
  renameSync(placeOf(root, one), aside);
  try {
    renameSync(placeOf(root, other), placeOf(root, one));
    renameSync(aside, placeOf(root, other));
  } finally {
    rmSync(aside, { force: true, recursive: true });
  }
}

/** A directory becomes a file or a FIFO, all else a directory. */
function swapType(root: string, at: Path, seed: number): void {
  const place = placeOf(root, at);
  const wasDirectory = lstatSync(place).isDirectory();
  rmSync(place, { recursive: true });
  if (wasDirectory && seed % 4 === 0) {
    runOn(["mkfifo"], root, at);
    return;
  }
  const inner = Buffer.concat([place, Buffer.from("/inner")]);
  if (!wasDirectory) mkdirSync(place);
  writeFileSync(wasDirectory ? place : inner, contentOf(seed * 100, seed));
}

function copyKeepingTimes(root: string, from: Path, to: Path): void {
  const stats = lstatSync(placeOf(root, from));
  if (!stats.isFile()) return;
  rmSync(placeOf(root, to), { force: true });
  copyFileSync(placeOf(root, from), placeOf(root, to));
  utimesSync(placeOf(root, to), stats.atimeMs / 1000, stats.mtimeMs / 1000);
}

/** Other content of the same size, and the old time put back. */
function sneak(place: Buffer): void {
  const stats = lstatSync(place);
  if (!stats.isFile()) return;
  writeFileSync(place, randomBytes(stats.size));
  utimesSync(place, stats.atimeMs / 1000, stats.mtimeMs / 1000);
}

/** Runs a program on a path of any bytes, which arguments of Node.js' child processes can't carry: by its octal escapes. */
function runOn(command: readonly string[], root: string, at: Path): void {
  const place = placeOf(root, at);
  const escaped = [...place].map((byte) => `\\0${byte.toString(8).padStart(3, "0")}`).join("");
  // The slash keeps line feeds at the end of a name from being cut off.
  execFileSync("sh", ["-c", `p=$(printf '%b/' "$1"); shift; "$@" "\${p%/}"`, "sh", escaped, ...command]);
}
