import { execFileSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

const MIB = 2 ** 20;
const FILES_OF_DIRECTORY = 100;

export interface SmallFiles {
  readonly files: number;
  /** On average, in bytes; sizes are spread evenly from 0.4 to 1.6 times of it. */
  readonly size: number;
}

/** A new tree of small files `dN/fN`, a hundred in a directory, of text as compressible as source code. */
export function makeSmallFiles(root: string, { files, size }: SmallFiles): void {
  const words = Array.from({ length: 2000 }, () => randomBytes(5).toString("base64url"));
  const word = () => words[Math.floor(Math.random() * words.length)] ?? "";
  for (let directory = 0; directory < files / FILES_OF_DIRECTORY; directory++) {
    mkdirSync(join(root, `d${directory}`), { recursive: true });
    for (let file = 0; file < FILES_OF_DIRECTORY; file++) {
      let content = "";
      for (const length = size * (0.4 + 1.2 * Math.random()); content.length < length; )
        content += `${word()} `;
      writeFileSync(join(root, `d${directory}/f${file}`), content);
    }
  }
}

/** A new tree of 1 GiB of random bytes: one file of half of it, and 32 that share the other half. */
export function makeRandomGibibyte(root: string): { readonly files: number } {
  mkdirSync(root);
  writeRandom(join(root, "large"), 512);
  for (let file = 0; file < 32; file++) writeRandom(join(root, `medium${file}`), 16);
  return { files: 33 };
}

/**
 * Adds large files of which every MiB is another one, but takes next to no room, neither on the disk nor in a
 * compressed store: what there is to remember of them is as much as of files full of content.
 */
export function addStampedFiles(root: string, files: number, mebibytesEach: number): void {
  for (let file = 0; file < files; file++) {
    const fd = openSync(join(root, `stamped${file}`), "wx");
    try {
      ftruncateSync(fd, mebibytesEach * MIB);
      for (let at = 0; at < mebibytesEach; at++)
        writeSync(fd, randomBytes(16), 0, 16, at * MIB + randomInt(MIB / 2));
    } finally {
      closeSync(fd);
    }
  }
}

/** Copies what is in a directory into another one, as an agent would put it there. */
export function copyInto(from: string, to: string): void {
  execFileSync("cp", ["--archive", `${from}/.`, to]);
}

/** Moves what is in a directory into another one of the same file system. */
export function moveInto(from: string, to: string): void {
  for (const name of readdirSync(from)) renameSync(join(from, name), join(to, name));
}

/**
 * Lists every directory and looks at every entry, and nothing else: the least that finding a change costs.
 *
 * @returns how many files there are
 */
export function walk(directory: string): number {
  let files = 0;
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (lstatSync(path).isDirectory()) files += walk(path);
    else files++;
  }
  return files;
}

/** Writes out what earlier work left dirty, so that nobody has to wait for what somebody else wrote. */
export function settleDisk(): void {
  execFileSync("sync");
}

/**
 * Has the kernel use as much memory for files and free it again, which it then gives to the next one who writes files. On a virtual
 * machine, memory that was not used for long has to be got from its host first, five times as slowly: whoever
 * happened to come first paid for it.
 */
export function useMemory(directory: string, mebibytes: number): void {
  const path = join(directory, "memory");
  const content = Buffer.alloc(16 * MIB);
  write(path, mebibytes, () => content);
  rmSync(path);
}

function writeRandom(path: string, mebibytes: number): void {
  write(path, mebibytes, () => randomBytes(16 * MIB));
}

function write(path: string, mebibytes: number, sixteenMebibytes: () => Buffer): void {
  const fd = openSync(path, "wx");
  try {
    for (let at = 0; at < mebibytes; at += 16) writeSync(fd, sixteenMebibytes());
  } finally {
    closeSync(fd);
  }
}
