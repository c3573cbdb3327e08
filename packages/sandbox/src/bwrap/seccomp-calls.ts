/** Processor architectures that the filter is made for, as Node names them. */
export type SeccompArchitecture = "x64" | "arm64";

/** Number of a system call per architecture; null where the architecture does not have it. */
export type CallNumbers = Readonly<Record<SeccompArchitecture, number | null>>;

function call(x64: number | null, arm64: number | null): CallNumbers {
  return { x64, arm64 };
}

/**
 * Calls that a sandbox never gets (EPERM): what makes or enters namespaces and mounts, looks into other
 * processes, loads code into the kernel, sets the clock or the host's name, or is a large, young part of
 * the kernel that an agent has no use for.
 */
export const DENIED_CALLS = {
  // Namespaces and mounts.
  unshare: call(272, 97),
  setns: call(308, 268),
  mount: call(165, 40),
  umount2: call(166, 39),
  pivot_root: call(155, 41),
  chroot: call(161, 51),
  open_tree: call(428, 428),
  move_mount: call(429, 429),
  fsopen: call(430, 430),
  fsconfig: call(431, 431),
  fsmount: call(432, 432),
  fspick: call(433, 433),
  mount_setattr: call(442, 442),
  name_to_handle_at: call(303, 264),
  open_by_handle_at: call(304, 265),
  statmount: call(457, 457),
  listmount: call(458, 458),
  quotactl: call(179, 60),
  quotactl_fd: call(443, 443),
  // Other processes.
  ptrace: call(101, 117),
  process_vm_readv: call(310, 270),
  process_vm_writev: call(311, 271),
  process_madvise: call(440, 440),
  process_mrelease: call(448, 448),
  pidfd_getfd: call(438, 438),
  kcmp: call(312, 272),
  // Keys of the kernel, shared by user id and not by namespace.
  add_key: call(248, 217),
  request_key: call(249, 218),
  keyctl: call(250, 219),
  // Large parts of the kernel.
  bpf: call(321, 280),
  perf_event_open: call(298, 241),
  userfaultfd: call(323, 282),
  io_uring_setup: call(425, 425),
  io_uring_enter: call(426, 426),
  io_uring_register: call(427, 427),
  fanotify_init: call(300, 262),
  memfd_secret: call(447, 447),
  lookup_dcookie: call(212, 18),
  nfsservctl: call(180, 42),
  uselib: call(134, null),
  ustat: call(136, null),
  sysfs: call(139, null),
  _sysctl: call(156, null),
  modify_ldt: call(154, null),
  iopl: call(172, null),
  ioperm: call(173, null),
  // Memory policy: pins pages to nodes of the host.
  mbind: call(237, 235),
  set_mempolicy: call(238, 237),
  migrate_pages: call(256, 238),
  move_pages: call(279, 239),
  set_mempolicy_home_node: call(450, 450),
  // The machine.
  syslog: call(103, 116),
  acct: call(163, 89),
  settimeofday: call(164, 170),
  clock_settime: call(227, 112),
  clock_adjtime: call(305, 266),
  adjtimex: call(159, 171),
  swapon: call(167, 224),
  swapoff: call(168, 225),
  reboot: call(169, 142),
  sethostname: call(170, 161),
  setdomainname: call(171, 162),
  vhangup: call(153, 58),
  init_module: call(175, 105),
  finit_module: call(313, 273),
  delete_module: call(176, 106),
  create_module: call(174, null),
  get_kernel_syms: call(177, null),
  query_module: call(178, null),
  kexec_load: call(246, 104),
  kexec_file_load: call(320, 294),
} as const satisfies Record<string, CallNumbers>;

/** Calls whose arguments decide. */
export const INSPECTED_CALLS = {
  clone: call(56, 220),
  ioctl: call(16, 29),
  socket: call(41, 198),
  socketpair: call(53, 199),
  personality: call(135, 92),
} as const satisfies Record<string, CallNumbers>;

/** The filter can't see the flags that this call takes by pointer; without it libraries use `clone`. */
export const CLONE3 = call(435, 435);

/**
 * The newest call that was judged for this list (removexattrat). A kernel's younger calls are answered as
 * if it did not have them.
 */
export const NEWEST_JUDGED_CALL = 466;
