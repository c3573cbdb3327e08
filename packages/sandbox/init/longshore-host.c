/*
 * longshore-host: what the worker needs of the kernel and Node.js has no call for. It runs on the host, never in a sandbox,
 * and reads nothing that an agent wrote.
 *
 *   longshore-host mount TEMPLATE IMAGE DIRECTORY UID GID [NAME]...
 *       Copies the image of an empty ext4, as sparse as it is, and mounts it by a loop device, which goes with the mount. It is
 *       that user's alone, and so are the directories of these names in it.
 *   longshore-host unmount DIRECTORY
 *       Detaches what is mounted there, also where something still holds it.
 *   longshore-host launch [group FILE | user UID GID | limit NAME VALUE]... -- PROGRAM [ARGUMENT...]
 *       Becomes the program: in the control groups whose files these are, as that user with no other group and no
 *       inheritable capability, under these limits, in the order in which they are named, and with the descriptors 0 to 5 only.
 *
 * cp, mount, a shell, setpriv and prlimit do the same, each a program more for which a start has to wait.
 * Ends with 125, and what failed on standard error, where it could not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/loop.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STATUS_FAILED = 125 };

/* How often another program may be faster to take the loop device that was free. */
#define TRIES 100
#define COPY_BYTES 65536
#define PRIVATE_MODE 0700
/* Standard input, output and error, and what bubblewrap is told by and tells by. */
#define DESCRIPTORS 6
/* Sandboxes die before the worker and its neighbours when the host itself runs out of memory. */
#define OOM_SCORE_ADJUSTMENT "500"

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *what, ...) {
  int error = errno;
  va_list values;
  va_start(values, what);
  fputs("longshore-host: ", stderr);
  vfprintf(stderr, what, values);
  va_end(values);
  fprintf(stderr, ": %s\n", strerror(error));
  exit(STATUS_FAILED);
}

static void __attribute__((noreturn)) usage(void) {
  fputs("longshore-host: usage: longshore-host mount TEMPLATE IMAGE DIRECTORY UID GID [NAME]... | unmount DIRECTORY | "
        "launch [group FILE | user UID GID | limit NAME VALUE]... -- PROGRAM [ARGUMENT...]\n",
        stderr);
  exit(STATUS_FAILED);
}

static int open_or_fail(const char *path, int flags) {
  int descriptor = open(path, flags | O_CLOEXEC, 0600);
  if (descriptor < 0) fail("can't open %s", path);
  return descriptor;
}

/* Copies what is not a hole. */
static void copy_sparse(int from, int to, off_t size) {
  static char buffer[COPY_BYTES];
  for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0;) {
    off_t end = lseek(from, at, SEEK_HOLE);
    if (end < 0) fail("can't read the template");
    while (at < end) {
      size_t most = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
      ssize_t count = pread(from, buffer, most, at);
      if (count <= 0 || pwrite(to, buffer, (size_t)count, at) != count) fail("can't copy the template");
      at += count;
    }
  }
  /* ENXIO: no data is left. */
  if (errno != ENXIO) fail("can't read the template");
  if (ftruncate(to, size) != 0) fail("can't size the image");
}

/* Makes a loop device over the image, and gives its path. It is gone with its last user, which the caller is until it ends. */
static const char *attach(int image) {
  static char name[32];
  struct loop_config config = {.fd = (__u32)image, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
  int control = open_or_fail("/dev/loop-control", O_RDWR);
  for (int try = 0; try < TRIES; try++) {
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0) fail("no loop device is free");
    snprintf(name, sizeof name, "/dev/loop%d", number);
    int device = open_or_fail(name, O_RDWR);
    if (ioctl(device, LOOP_CONFIGURE, &config) == 0) return name;
    if (errno != EBUSY) fail("can't configure %s", name);
    close(device);
  }
  fail("can't get a loop device");
}

static unsigned long number(const char *text) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (errno != 0 || *text < '0' || *text > '9' || *end != '\0') usage();
  return value;
}

static void give(const char *path, uid_t user, gid_t group) {
  if (chmod(path, PRIVATE_MODE) != 0 || chown(path, user, group) != 0) fail("can't give %s away", path);
}

static void mount_image(const char *template, const char *image, const char *directory, char **owner) {
  uid_t user = (uid_t)number(owner[0]);
  gid_t group = (gid_t)number(owner[1]);
  int from = open_or_fail(template, O_RDONLY);
  int to = open_or_fail(image, O_RDWR | O_CREAT | O_EXCL);
  struct stat status;
  if (fstat(from, &status) != 0) fail("can't read %s", template);
  copy_sparse(from, to, status.st_size);
  const char *device = attach(to);
  /* Nothing is lost by tables that stay uninitialized for the few hours that it lives. */
  if (mount(device, directory, "ext4", MS_NOATIME | MS_NOSUID | MS_NODEV, "noinit_itable") != 0)
    fail("can't mount %s at %s", device, directory);
  if (chdir(directory) != 0 || rmdir("lost+found") != 0) fail("can't empty %s", directory);
  for (char **name = owner + 2; *name != NULL; name++) {
    if (mkdir(*name, PRIVATE_MODE) != 0) fail("can't make %s", *name);
    give(*name, user, group);
  }
  give(".", user, group);
}

/* A control group's file takes the process that writes to it. */
static void join_group(const char *file) {
  int group = open_or_fail(file, O_WRONLY);
  if (write(group, "0", 1) != 1) fail("can't join %s", file);
  close(group);
}

static void become(uid_t user, gid_t group) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
  if (setgroups(0, NULL) != 0 || setresgid(group, group, group) != 0 || setresuid(user, user, user) != 0)
    fail("can't become user %u", user);
  if (syscall(SYS_capset, &header, none) != 0) fail("can't drop capabilities");
}

static void limit(const char *name, rlim_t value) {
  static const struct {
    const char *name;
    __rlimit_resource_t resource;
  } known[] = {{"nofile", RLIMIT_NOFILE}, {"fsize", RLIMIT_FSIZE}, {"core", RLIMIT_CORE}, {"data", RLIMIT_DATA}, {"nproc", RLIMIT_NPROC}};
  const struct rlimit both = {value, value};
  for (size_t at = 0; at < sizeof known / sizeof *known; at++) {
    if (strcmp(name, known[at].name) != 0) continue;
    if (setrlimit(known[at].resource, &both) != 0) fail("can't limit %s to %lu", name, (unsigned long)value);
    return;
  }
  usage();
}

/* What the worker itself was started with: Node.js opens its own so that they are closed. */
static void close_inherited(void) {
  if (syscall(SYS_close_range, DESCRIPTORS, ~0U, 0) == 0) return;
  /* Before Linux 5.9. */
  for (int descriptor = DESCRIPTORS; descriptor < sysconf(_SC_OPEN_MAX); descriptor++) close(descriptor);
}

static void __attribute__((noreturn)) launch(char **words) {
  close_inherited();
  int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) {
    ssize_t ignored = write(score, OOM_SCORE_ADJUSTMENT, strlen(OOM_SCORE_ADJUSTMENT));
    (void)ignored;
    close(score);
  }
  while (words[0] != NULL && strcmp(words[0], "--") != 0) {
    if (words[1] != NULL && strcmp(words[0], "group") == 0) {
      join_group(words[1]);
      words += 2;
    } else if (words[1] != NULL && words[2] != NULL && strcmp(words[0], "user") == 0) {
      become((uid_t)number(words[1]), (gid_t)number(words[2]));
      words += 3;
    } else if (words[1] != NULL && words[2] != NULL && strcmp(words[0], "limit") == 0) {
      limit(words[1], number(words[2]));
      words += 3;
    } else {
      usage();
    }
  }
  if (words[0] == NULL || words[1] == NULL) usage();
  execvp(words[1], words + 1);
  fail("can't run %s", words[1]);
}

int main(int count, char **words) {
  if (count >= 4 && strcmp(words[1], "launch") == 0) launch(words + 2);
  if (count >= 7 && strcmp(words[1], "mount") == 0) {
    mount_image(words[2], words[3], words[4], words + 5);
  } else if (count == 3 && strcmp(words[1], "unmount") == 0) {
    if (umount2(words[2], MNT_DETACH | UMOUNT_NOFOLLOW) != 0) fail("can't unmount %s", words[2]);
  } else {
    usage();
  }
  return 0;
}
