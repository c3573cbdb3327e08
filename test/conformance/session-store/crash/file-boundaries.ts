import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";

// Preloaded into a process (`--import`) and so into its threads: counts every change of a file system that they make
// through Node.js, and kills the process at a chosen one, before it is made or, for a write, when half of it is made.
// Calls that only read are no boundaries: a crash before one leaves what a crash before the next change leaves.

const KEY = "longshore file boundaries";
const COUNT = 0;
const CHOSEN = 1;
const ARMED = 2;

const state = sharedState();

function sharedState(): Int32Array<SharedArrayBuffer> {
  if (!isMainThread) return getEnvironmentData(KEY) as Int32Array<SharedArrayBuffer>;
  const made = new Int32Array(new SharedArrayBuffer(12));
  made[CHOSEN] = -1;
  setEnvironmentData(KEY, made);
  return made;
}

/** From now on boundaries are counted. @param chosen the one to die at, counted from 0; none by default */
export function arm(chosen?: number): void {
  if (chosen !== undefined) Atomics.store(state, CHOSEN, chosen);
  Atomics.store(state, ARMED, 1);
}

/** @returns boundaries so far */
export function disarm(): number {
  Atomics.store(state, ARMED, 0);
  return Atomics.load(state, COUNT);
}

function boundary(halfway: () => void = () => undefined): void {
  if (Atomics.load(state, ARMED) === 0) return;
  if (Atomics.add(state, COUNT, 1) !== Atomics.load(state, CHOSEN)) return;
  halfway();
  process.kill(process.pid, "SIGKILL");
}

type Call = (this: unknown, ...args: unknown[]) => unknown;

function wrap(
  holder: object,
  name: string,
  before: (self: unknown, args: unknown[], original: Call) => void,
): void {
  const original = Reflect.get(holder, name) as Call;
  Reflect.set(holder, name, function wrapped(this: unknown, ...args: unknown[]) {
    before(this, args, original);
    return original.apply(this, args);
  });
}

function creates(flags: unknown): boolean {
  return typeof flags === "number" ? (flags & fs.constants.O_CREAT) !== 0 : /^[wa]/.test(String(flags));
}

const changes = ["mkdir", "symlink", "unlink", "rmdir", "rm", "rename", "link", "chmod", "lchown", "utimes"];
changes.push("lutimes", "copyFile", "writeFile", "truncate");
const onDescriptors = [
  "fchmodSync",
  "fchownSync",
  "futimesSync",
  "ftruncateSync",
  "fsyncSync",
  "fdatasyncSync",
];

for (const name of [...changes.map((change) => `${change}Sync`), ...onDescriptors])
  wrap(fs, name, () => boundary());
for (const name of changes) wrap(fs.promises, name, () => boundary());
for (const holder of [fs, fs.promises]) {
  const name = holder === fs ? "openSync" : "open";
  wrap(holder, name, (_self, [, flags]) => {
    if (creates(flags)) boundary();
  });
}
wrap(fs, "writeSync", (self, [fd, content, offset, length, position], original) => {
  boundary(() => original.call(self, fd, content, offset, Math.floor(Number(length) / 2), position));
});

const handle = await fs.promises.open("/dev/null", "r+");
const handles = Object.getPrototypeOf(handle) as object;
await handle.close();
for (const name of ["datasync", "sync", "truncate", "chmod", "utimes"]) wrap(handles, name, () => boundary());
for (const name of ["write", "writeFile", "appendFile"]) {
  wrap(handles, name, (self, [content]) => {
    const { fd } = self as { readonly fd: number };
    boundary(() => {
      if (Buffer.isBuffer(content)) unwatchedWrite(fd, content.subarray(0, Math.floor(content.length / 2)));
    });
  });
}

/** A write that is no boundary. */
export function unwatchedWrite(fd: number, content: Uint8Array): void {
  const armed = Atomics.exchange(state, ARMED, 0);
  fs.writeSync(fd, content, 0, content.length);
  Atomics.store(state, ARMED, armed);
}

syncBuiltinESMExports();
