import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";

// Preloaded into a process (`--import`) and so into its threads: counts every change of a file system that they make
// through Node.js, and kills the process at a chosen one, before it is made or, for a write, when half of it is made; or
// has it fail. Calls that only read are no boundaries: a crash before one leaves what a crash before the next change leaves.

const KEY = "longshore file boundaries";
const COUNT = 0;
const CHOSEN = 1;
const ARMED = 2;
const FATE = 3;

/** What happens at the chosen boundary: the process dies, the call fails, or it and all after it do. */
const FATES = ["die", "fail", "fail from there on"] as const;
export type Fate = (typeof FATES)[number];

const state = sharedState();

function sharedState(): Int32Array<SharedArrayBuffer> {
  if (!isMainThread) return getEnvironmentData(KEY) as Int32Array<SharedArrayBuffer>;
  const made = new Int32Array(new SharedArrayBuffer(16));
  made[CHOSEN] = -1;
  setEnvironmentData(KEY, made);
  return made;
}

/** From now on boundaries are counted. @param chosen the one where it happens, counted from 0; none by default */
export function arm(chosen?: number, fate: Fate = "die"): void {
  if (chosen !== undefined) {
    Atomics.store(state, CHOSEN, chosen);
    Atomics.store(state, FATE, FATES.indexOf(fate));
  }
  Atomics.store(state, ARMED, 1);
}

/** Counts from 0 again. */
export function recount(): void {
  Atomics.store(state, COUNT, 0);
}

/** @returns boundaries so far */
export function disarm(): number {
  Atomics.store(state, ARMED, 0);
  return Atomics.load(state, COUNT);
}

/** @returns the error with which the call is to fail, if it is */
function boundary(name: string, halfway: () => void = () => undefined): Error | undefined {
  if (Atomics.load(state, ARMED) === 0) return undefined;
  const number = Atomics.add(state, COUNT, 1);
  const chosen = Atomics.load(state, CHOSEN);
  const fate = FATES[Atomics.load(state, FATE)];
  if (chosen === -1 || (number !== chosen && !(number > chosen && fate === "fail from there on")))
    return undefined;
  halfway();
  if (fate === "die") process.kill(process.pid, "SIGKILL");
  return Object.assign(new Error(`EIO: i/o error, ${name}`), { code: "EIO", errno: -5, syscall: name });
}

type Call = (this: unknown, ...args: unknown[]) => unknown;

/** @param before says what becomes of a call; undefined: it takes place */
function wrap(
  holder: object,
  name: string,
  before: (self: unknown, args: unknown[], original: Call) => Error | undefined,
): void {
  const original = Reflect.get(holder, name) as Call;
  const isSynchronous = name.endsWith("Sync");
  Reflect.set(holder, name, function wrapped(this: unknown, ...args: unknown[]) {
    const error = before(this, args, original);
    if (error === undefined) return original.apply(this, args);
    if (isSynchronous) throw error;
    return Promise.reject(error);
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

for (const name of [...changes.map((change) => `${change}Sync`), ...onDescriptors]) {
  wrap(fs, name, () => boundary(name));
}
for (const name of changes) wrap(fs.promises, name, () => boundary(name));
for (const [holder, name] of [
  [fs, "openSync"],
  [fs.promises, "open"],
] as const) {
  wrap(holder, name, (_self, [, flags]) => (creates(flags) ? boundary(name) : undefined));
}
wrap(fs, "writeSync", (self, [fd, content, offset, length, position], original) =>
  boundary("write", () => {
    original.call(self, fd, content, offset, Math.floor(Number(length) / 2), position);
  }),
);

const handle = await fs.promises.open("/dev/null", "r+");
const handles = Object.getPrototypeOf(handle) as object;
await handle.close();
for (const name of ["datasync", "sync", "truncate", "chmod", "utimes"])
  wrap(handles, name, () => boundary(name));
for (const name of ["write", "writeFile", "appendFile"]) {
  wrap(handles, name, (self, [content]) => {
    const { fd } = self as { readonly fd: number };
    return boundary(name, () => {
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
