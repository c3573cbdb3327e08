import { expect, test } from "vitest";
import { seccompFilter } from "./seccomp.ts";
import { DENIED_CALLS, INSPECTED_CALLS, type SeccompArchitecture } from "./seccomp-calls.ts";

const ALLOW = 0x7fff0000;
const KILL = 0x80000000;
const EPERM = 0x00050001;
const ENOSYS = 0x00050026;
const EAFNOSUPPORT = 0x00050061;
const AUDIT: Record<SeccompArchitecture, number> = { x64: 0xc000003e, arm64: 0xc00000b7 };
const ARCHITECTURES: readonly SeccompArchitecture[] = ["x64", "arm64"];

/** What the kernel would answer, by running the program as the kernel does. */
function run(program: Buffer, audit: number, call: number, args: readonly bigint[] = []): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(call, 0);
  data.writeUInt32LE(audit, 4);
  for (const [index, value] of args.entries())
    data.writeBigUInt64LE(BigInt.asUintN(64, value), 16 + 8 * index);
  let accumulator = 0;
  for (let at = 0; at < program.length / 8; at++) {
    const code = program.readUInt16LE(at * 8);
    const ifTrue = program.readUInt8(at * 8 + 2);
    const ifFalse = program.readUInt8(at * 8 + 3);
    const value = program.readUInt32LE(at * 8 + 4);
    if (code === 0x06) return value;
    if (code === 0x20) accumulator = data.readUInt32LE(value);
    else if (code === 0x15) at += accumulator === value ? ifTrue : ifFalse;
    else if (code === 0x25) at += accumulator > value ? ifTrue : ifFalse;
    else if (code === 0x45) at += (accumulator & value) !== 0 ? ifTrue : ifFalse;
    else throw new Error(`the kernel would refuse instruction ${code}`);
  }
  throw new Error("it ran off its end");
}

test.each(ARCHITECTURES)("%s: every denied call is denied and ordinary ones are not", (architecture) => {
  const program = seccompFilter(architecture);
  for (const [name, numbers] of Object.entries(DENIED_CALLS)) {
    const number = numbers[architecture];
    if (number !== null) expect(run(program, AUDIT[architecture], number), name).toBe(EPERM);
  }
  const denied = new Set<number | null>([
    ...Object.values(DENIED_CALLS).map((numbers) => numbers[architecture]),
    ...Object.values(INSPECTED_CALLS).map((numbers) => numbers[architecture]),
    435,
  ]);
  for (let number = 0; number <= 466; number++) {
    if (!denied.has(number)) expect(run(program, AUDIT[architecture], number), `call ${number}`).toBe(ALLOW);
  }
});

test.each(ARCHITECTURES)("%s: no number is listed twice, so no name has another's number", (architecture) => {
  const numbers = [...Object.values(DENIED_CALLS), ...Object.values(INSPECTED_CALLS)]
    .map((call) => call[architecture])
    .filter((number) => number !== null);
  expect(new Set(numbers).size).toBe(numbers.length);
});

test.each(ARCHITECTURES)("%s: calls younger than the list do not exist, nor does clone3", (architecture) => {
  const program = seccompFilter(architecture);
  for (const number of [435, 467, 500, 0x40000000 + 1, 0x40000000 + 101]) {
    expect(run(program, AUDIT[architecture], number), `call ${number}`).toBe(ENOSYS);
  }
});

test.each(ARCHITECTURES)("%s: a program of another architecture is killed", (architecture) => {
  const i386 = 0x40000003;
  expect(run(seccompFilter(architecture), i386, 1)).toBe(KILL);
});

test.each(ARCHITECTURES)("%s: arguments decide where they must", (architecture) => {
  const program = seccompFilter(architecture);
  const answer = (name: keyof typeof INSPECTED_CALLS, ...args: bigint[]) =>
    run(program, AUDIT[architecture], INSPECTED_CALLS[name][architecture] ?? -1, args);
  const SIGCHLD = 17n;
  const THREAD = 0x3d0f00n;
  expect(answer("clone", SIGCHLD)).toBe(ALLOW);
  expect(answer("clone", THREAD)).toBe(ALLOW);
  for (const flag of [0x20000n, 0x2000000n, 0x4000000n, 0x8000000n, 0x10000000n, 0x20000000n, 0x40000000n]) {
    expect(answer("clone", SIGCHLD | flag)).toBe(EPERM);
  }
  // The kernel looks at the low 32 bits of a request only.
  for (const request of [0x5412n, 0x541cn, 0x5423n]) {
    expect(answer("ioctl", 0n, request)).toBe(EPERM);
    expect(answer("ioctl", 0n, (1n << 32n) | request)).toBe(EPERM);
  }
  expect(answer("ioctl", 0n, 0x5401n)).toBe(ALLOW);
  for (const call of ["socket", "socketpair"] as const) {
    for (const family of [1n, 2n, 10n]) expect(answer(call, family, 1n, 0n)).toBe(ALLOW);
    expect(answer(call, 16n, 3n, 0n)).toBe(ALLOW);
    expect(answer(call, 16n, 3n, 12n)).toBe(EAFNOSUPPORT);
    for (const family of [4n, 17n, 29n, 38n, 40n, 44n])
      expect(answer(call, family, 3n, 0n)).toBe(EAFNOSUPPORT);
  }
  expect(answer("personality", 0n)).toBe(ALLOW);
  expect(answer("personality", 0xffffffffn)).toBe(ALLOW);
  expect(answer("personality", 0x40000n)).toBe(EPERM);
});

test("an architecture without a filter gets no sandbox", () => {
  expect(() => seccompFilter("riscv64")).toThrow(/riscv64/);
});
