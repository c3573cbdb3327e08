import { randomBytes } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

/** A small tree with something of everything, in which two processes come to the same state independently. */
export function makeSampleTree(directory: string): void {
  mkdirSync(join(directory, "workspace/private"), { recursive: true });
  mkdirSync(join(directory, "empty"));
  writeFileSync(join(directory, "workspace/notes"), "first notes\n");
  writeFileSync(join(directory, "workspace/none"), "");
  writeFileSync(join(directory, "workspace/private/key"), "key", { mode: 0o600 });
  chmodSync(join(directory, "workspace/private"), 0o700);
  // Of two chunks, so that it is written in pieces, in a thread.
  writeFileSync(join(directory, "large"), pattern(1_100_000, 1));
  symlinkSync("workspace/notes", join(directory, "link"));
  settleTimes(directory, 1000);
}

/** A turn's work on it. What it adds needs a pack. */
export function editSampleTree(directory: string): void {
  writeFileSync(join(directory, "workspace/notes"), "second notes, longer\n");
  rmSync(join(directory, "workspace/none"));
  renameSync(join(directory, "workspace/private"), join(directory, "workspace/moved"));
  writeFileSync(join(directory, "large"), pattern(1_200_000, 2));
  rmSync(join(directory, "empty"), { recursive: true });
  writeFileSync(join(directory, "empty"), "a file now");
  settleTimes(directory, 2000);
}

/** Leaves in a file which generation is the newest that it saw: what the next activation does. */
export function continueSampleTree(directory: string): void {
  writeFileSync(join(directory, "continued"), randomBytes(1000));
}

/** A file that somebody else puts there, too large to be part of a commit record. */
export const SAMPLE_UPLOAD = {
  path: "uploaded",
  content: pattern(100_000, 3),
  mode: 0o640,
  mtimeMs: 3_000_250,
};

/** Makes the tree as it is when it was uploaded. */
export function addSampleUpload(directory: string): void {
  const path = join(directory, SAMPLE_UPLOAD.path);
  writeFileSync(path, SAMPLE_UPLOAD.content, { mode: SAMPLE_UPLOAD.mode });
  lutimesSync(path, 3000, SAMPLE_UPLOAD.mtimeMs / 1000);
}

function pattern(length: number, seed: number): Buffer {
  const content = Buffer.alloc(length);
  for (let at = 0, value = seed; at + 4 <= length; at += 4) {
    value = (Math.imul(value, 1_664_525) + 1_013_904_223) | 0;
    content.writeInt32LE(value, at);
  }
  return content;
}

/** Gives everything times that tell nothing of when it was made. */
function settleTimes(directory: string, seconds: number): void {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (lstatSync(path).isDirectory()) settleTimes(path, seconds);
    lutimesSync(path, seconds, seconds + 0.25);
  }
}
