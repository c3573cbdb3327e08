import { createHash, randomBytes } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setImmediate } from "node:timers/promises";
import { ATOMIC_BYTES, LARGE_BYTES } from "./busy-files.ts";

// An agent that is not paused: from "go" to "pause" it changes its directory without rest, in every way.

const { directory } = JSON.parse(process.argv[2] ?? "") as { readonly directory: string };
const at = (...parts: string[]) => join(directory, ...parts);
const SLOTS = 40;
let going = false;
let round = 0;

writeFileSync(at("large"), randomBytes(LARGE_BYTES));
mkdirSync(at("atomic"));

const told = createInterface({ input: process.stdin });
told.on("line", (line) => {
  if (line === "pause") going = false;
  else if (!going) void work();
});
// Nobody is left to tell it anything.
told.on("close", () => process.exit());
console.log("ready");

async function work(): Promise<void> {
  going = true;
  while (going) {
    change(round++);
    // Where a "pause" is heard.
    if (round % 8 === 0) await setImmediate();
  }
  console.log("paused");
}

/** Kinds of change, each given a number and a name that comes up again. */
const changes: readonly ((round: number, slot: string) => void)[] = [
  (_round, slot) => {
    const body = randomBytes(ATOMIC_BYTES - 32);
    writeFileSync(at("aside"), Buffer.concat([createHash("sha256").update(body).digest(), body]));
    renameSync(at("aside"), at("atomic", slot));
  },
  (round) => appendFileSync(at("appended"), `line ${round}\n`),
  (round) => {
    const fd = openSync(at("large"), "r+");
    writeSync(fd, randomBytes(4096), 0, 4096, ((round * 7919) % (LARGE_BYTES / 4096)) * 4096);
    closeSync(fd);
  },
  // The same size again, so that size tells nothing.
  (round, slot) => writeFileSync(at(`same${slot}`), `${round}`.padEnd(500)),
  (round, slot) => {
    rmSync(at(`dir${slot}`), { recursive: true, force: true });
    mkdirSync(at(`dir${slot}`, "sub"), { recursive: true });
    writeFileSync(at(`dir${slot}`, "sub", "file"), randomBytes(round % 3000));
  },
  (round) => {
    rmSync(at("moved"), { recursive: true, force: true });
    renameSync(at(`dir${(round - 1) % SLOTS}`), at("moved"));
  },
  (round) => {
    rmSync(at("changing"), { recursive: true, force: true });
    if (round % 3 === 0) symlinkSync(`target ${round}`, at("changing"));
    else if (round % 3 === 1) mkdirSync(at("changing"));
    else writeFileSync(at("changing"), "file");
  },
  (round) => {
    rmSync(at("linked"), { force: true });
    linkSync(at(`same${(round - 4) % SLOTS}`), at("linked"));
    chmodSync(at("linked"), round % 2 === 0 ? 0o600 : 0o640);
  },
];

function change(round: number): void {
  changes[round % changes.length]?.(round, String(round % SLOTS));
}
