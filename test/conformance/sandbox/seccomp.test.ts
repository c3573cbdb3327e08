import { BwrapRuntime, type SandboxRuntime } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HOST, type Platform, platforms } from "./platforms.ts";
import { World } from "./world.ts";

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** Calls per architecture that a sandbox must not get, as the kernel numbers them: written down here anew. */
const DENIED: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: {
    ptrace: 101,
    syslog: 103,
    personality_with_no_randomization: 135,
    pivot_root: 155,
    mount: 165,
    umount2: 166,
    add_key: 248,
    request_key: 249,
    keyctl: 250,
    unshare: 272,
    move_pages: 279,
    perf_event_open: 298,
    fanotify_init: 300,
    name_to_handle_at: 303,
    open_by_handle_at: 304,
    setns: 308,
    process_vm_readv: 310,
    process_vm_writev: 311,
    kcmp: 312,
    bpf: 321,
    userfaultfd: 323,
    io_uring_setup: 425,
    open_tree: 428,
    fsopen: 430,
    pidfd_getfd: 438,
    mount_setattr: 442,
  },
  arm64: {
    umount2: 39,
    mount: 40,
    pivot_root: 41,
    unshare: 97,
    ptrace: 117,
    add_key: 217,
    request_key: 218,
    keyctl: 219,
    perf_event_open: 241,
    fanotify_init: 262,
    open_by_handle_at: 265,
    setns: 268,
    process_vm_readv: 270,
    process_vm_writev: 271,
    bpf: 280,
    userfaultfd: 282,
    io_uring_setup: 425,
    pidfd_getfd: 438,
  },
};
const CALLS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  x64: { clone: 56, ioctl: 16, socket: 41, getpid: 39 },
  arm64: { clone: 220, ioctl: 29, socket: 198, getpid: 172 },
};

describe("the seccomp filter of bwrap, in the kernel", () => {
  let world: World;
  const numbers = CALLS[process.arch] ?? {};

  beforeAll(async () => {
    const bwrap = platforms.find(({ name }) => name === "bwrap") as Platform;
    // The host's system paths, since it takes perl to make any call.
    const platform: Platform = {
      ...bwrap,
      spec: { rootfs: "host" },
      runtime: (runDirectory): SandboxRuntime => new BwrapRuntime({ host: HOST, runDirectory }),
    };
    world = await World.open(platform);
  });
  afterAll(() => world.close());

  /** Makes calls in a sandbox, a line of numbers each, and returns what each gave: 0 or an error number. */
  async function errnosOf(calls: readonly (readonly number[])[]): Promise<number[]> {
    const lines = calls.map((words) => `call(${words.join(", ")});`).join("\n");
    const script = `sub call { my $r = syscall($_[0], map { $_ + 0 } @_[1 .. $#_]); print $r == -1 ? $! + 0 : 0, "\\n"; } ${lines}`;
    const { stdout, stderr } = await world.run('perl -e "$SCRIPT"', { env: { SCRIPT: script } });
    expect(stderr).toBe("");
    return stdout.trim().split("\n").map(Number);
  }

  test("calls that are denied", async () => {
    const calls = Object.entries(DENIED[process.arch] ?? {});
    const noRandomization = 0x40000;
    const errnos = await errnosOf(
      calls.map(([name, number]) => [
        number,
        name.startsWith("personality") ? noRandomization : 0,
        0,
        0,
        0,
        0,
      ]),
    );
    expect(Object.fromEntries(calls.map(([name], index) => [name, errnos[index]]))).toEqual(
      Object.fromEntries(calls.map(([name]) => [name, EPERM])),
    );
  });

  test("calls that do not exist: clone3, those younger than the filter, x32", async () => {
    expect(
      await errnosOf([
        [435, 0, 0],
        [470, 0],
        [1000, 0],
        [0x40000000 + 39, 0],
      ]),
    ).toEqual(Array(4).fill(ENOSYS));
  });

  test("namespaces by clone, for users as for all else", async () => {
    const flags = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000];
    expect(await errnosOf(flags.map((flag) => [numbers.clone ?? 0, flag | 17, 0, 0, 0, 0]))).toEqual(
      flags.map(() => EPERM),
    );
  });

  test("input into a terminal", async () => {
    const requests = [0x5412, 0x541c, 0x5423];
    expect(await errnosOf(requests.map((request) => [numbers.ioctl ?? 0, 0, request, 0]))).toEqual(
      requests.map(() => EPERM),
    );
  });

  test("socket families but the local, internet and routing ones", async () => {
    const [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_ALG, AF_VSOCK] = [1, 2, 10, 16, 17, 38, 40];
    const sockets = [
      [AF_UNIX, 1, 0, 0],
      [AF_INET, 1, 0, 0],
      [AF_INET6, 1, 0, 0],
      [AF_NETLINK, 3, 0, 0],
      [AF_NETLINK, 3, 12, EAFNOSUPPORT],
      [AF_PACKET, 3, 0, EAFNOSUPPORT],
      [AF_ALG, 5, 0, EAFNOSUPPORT],
      [AF_VSOCK, 1, 0, EAFNOSUPPORT],
    ] as const;
    const errnos = await errnosOf(
      sockets.map(([family, type, protocol]) => [numbers.socket ?? 0, family ?? 0, type, protocol]),
    );
    expect(errnos).toEqual(sockets.map(([, , , errno]) => errno));
  });

  test("an ordinary call is let through", async () => {
    expect(await errnosOf([[numbers.getpid ?? 0]])).toEqual([0]);
  });

  test("bubblewrap's own first process is under the filter too", async () => {
    const { stdout } = await world.run("cat /proc/1/status");
    expect(stdout).toMatch(/^Seccomp:\s+2$/m);
    expect(stdout).toMatch(/^CapEff:\s+0+$/m);
  });
});
