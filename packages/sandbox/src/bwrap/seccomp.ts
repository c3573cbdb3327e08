import { SandboxStartError } from "../errors.ts";
import {
  CLONE3,
  DENIED_CALLS,
  INSPECTED_CALLS,
  NEWEST_JUDGED_CALL,
  type SeccompArchitecture,
} from "./seccomp-calls.ts";

// Classic BPF, the few instructions that a filter needs (linux/bpf_common.h).
const LOAD_WORD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const JUMP_IF_GREATER = 0x25;
const JUMP_IF_ANY_BIT = 0x45;
const RETURN = 0x06;
const INSTRUCTION_BYTES = 8;

// linux/seccomp.h
const ALLOW = 0x7fff_0000;
const KILL_PROCESS = 0x8000_0000;
const FAIL = 0x0005_0000;
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

// Offsets in struct seccomp_data; arguments are 64 bits, little-endian on both architectures.
const CALL_NUMBER = 0;
const ARCHITECTURE = 4;
const argument = (index: number) => 16 + 8 * index;

const AUDIT_ARCHITECTURES: Readonly<Record<SeccompArchitecture, number>> = {
  x64: 0xc000_003e,
  arm64: 0xc000_00b7,
};

/** CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}. */
const CLONE_NAMESPACE_FLAGS = 0x7e02_0000;
/** Put input into a terminal (TIOCSTI, TIOCLINUX), or change its line discipline (TIOCSETD). */
const DENIED_IOCTLS = [0x5412, 0x541c, 0x5423];
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const NETLINK_ROUTE = 0;
/** Linux, 32-bit addresses, both without and with "uname 2.6", and the query. */
const ALLOWED_PERSONALITIES = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

/**
 * The filter for a sandbox of bubblewrap, as the kernel takes it: what is dangerous is denied, what is
 * younger than the list does not exist, all else is allowed. A program for another architecture (32-bit
 * calls on a 64-bit kernel) is killed, since call numbers mean something else there.
 *
 * @throws SandboxStartError on an architecture it was not made for
 */
export function seccompFilter(architecture: string): Buffer {
  if (architecture !== "x64" && architecture !== "arm64") {
    throw new SandboxStartError(`there is no seccomp filter for the architecture ${architecture}`);
  }
  const program = new Program();
  program.load(ARCHITECTURE);
  program.unlessEqual(AUDIT_ARCHITECTURES[architecture], [ret(KILL_PROCESS)]);
  program.load(CALL_NUMBER);
  // Also true of the x32 calls of x86-64, which carry bit 30.
  program.ifGreater(NEWEST_JUDGED_CALL, ret(FAIL | ENOSYS));
  program.onCall(CLONE3[architecture], [ret(FAIL | ENOSYS)]);
  for (const numbers of Object.values(DENIED_CALLS))
    program.onCall(numbers[architecture], [ret(FAIL | EPERM)]);
  program.onCall(INSPECTED_CALLS.clone[architecture], [
    load(argument(0)),
    jump(JUMP_IF_ANY_BIT, CLONE_NAMESPACE_FLAGS, 0, 1),
    ret(FAIL | EPERM),
    ret(ALLOW),
  ]);
  program.onCall(INSPECTED_CALLS.ioctl[architecture], [
    load(argument(1)),
    ...DENIED_IOCTLS.flatMap((request) => [jump(JUMP_IF_EQUAL, request, 0, 1), ret(FAIL | EPERM)]),
    ret(ALLOW),
  ]);
  for (const name of ["socket", "socketpair"] as const) {
    program.onCall(INSPECTED_CALLS[name][architecture], [
      load(argument(0)),
      ...[AF_UNIX, AF_INET, AF_INET6].flatMap((family) => [jump(JUMP_IF_EQUAL, family, 0, 1), ret(ALLOW)]),
      // The routing part of netlink answers "which interfaces are there", which many programs ask.
      jump(JUMP_IF_EQUAL, AF_NETLINK, 0, 3),
      load(argument(2)),
      jump(JUMP_IF_EQUAL, NETLINK_ROUTE, 0, 1),
      ret(ALLOW),
      ret(FAIL | EAFNOSUPPORT),
    ]);
  }
  program.onCall(INSPECTED_CALLS.personality[architecture], [
    load(argument(0)),
    ...ALLOWED_PERSONALITIES.flatMap((persona) => [jump(JUMP_IF_EQUAL, persona, 0, 1), ret(ALLOW)]),
    ret(FAIL | EPERM),
  ]);
  program.add([ret(ALLOW)]);
  return program.bytes();
}

interface Instruction {
  readonly code: number;
  readonly value: number;
  readonly ifTrue: number;
  readonly ifFalse: number;
}

function jump(code: number, value: number, ifTrue: number, ifFalse: number): Instruction {
  return { code, value, ifTrue, ifFalse };
}

function load(offset: number): Instruction {
  return jump(LOAD_WORD, offset, 0, 0);
}

function ret(value: number): Instruction {
  return jump(RETURN, value, 0, 0);
}

/** A filter in the making. The call's number is in the accumulator between blocks. */
class Program {
  readonly #instructions: Instruction[] = [];

  add(instructions: readonly Instruction[]): void {
    this.#instructions.push(...instructions);
  }

  load(offset: number): void {
    this.add([load(offset)]);
  }

  unlessEqual(value: number, block: readonly Instruction[]): void {
    this.add([jump(JUMP_IF_EQUAL, value, block.length, 0), ...block]);
  }

  ifGreater(value: number, then: Instruction): void {
    this.add([jump(JUMP_IF_GREATER, value, 0, 1), then]);
  }

  /** Runs a block, which returns in every case, for one call. */
  onCall(number: number | null, block: readonly Instruction[]): void {
    if (number !== null) this.add([jump(JUMP_IF_EQUAL, number, 0, block.length), ...block]);
  }

  bytes(): Buffer {
    const bytes = Buffer.alloc(this.#instructions.length * INSTRUCTION_BYTES);
    for (const [index, { code, value, ifTrue, ifFalse }] of this.#instructions.entries()) {
      const offset = index * INSTRUCTION_BYTES;
      bytes.writeUInt16LE(code, offset);
      bytes.writeUInt8(ifTrue, offset + 2);
      bytes.writeUInt8(ifFalse, offset + 3);
      bytes.writeUInt32LE(value >>> 0, offset + 4);
    }
    return bytes;
  }
}
