/*
 * longshore-init: the whole footprint of Longshore inside a sandbox, mounted read-only into any image.
 *
 *   longshore-init run PROGRAM [ARGUMENT...]
 *       The sandbox's first process. Connects the lifeline, listens for egress where the worker gave a
 *       socket for it, runs the program and ends as it ended. It reaps what the program leaves behind and
 *       passes signals on. When the lifeline breaks, it ends, and the kernel ends everything with it.
 *   longshore-init mcp
 *       Carries standard input and output to and from the worker's socket for tools.
 *
 * It reads nothing of what it carries: there is no parser to be fooled. What the worker is told over the
 * lifeline is one line: "started", or "failed " and the errno of exec.
 *
 * Exit statuses of its own: 124 the lifeline broke, 125 it could not do its part, 126 the program can't be
 * run, 127 there is no such program.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SOCKETS
#define SOCKETS "/.longshore/run"
#endif
#ifndef EGRESS_PORT
#define EGRESS_PORT 3128
#endif

#define LIFELINE SOCKETS "/lifeline"
#define EGRESS SOCKETS "/egress"
#define TOOLS SOCKETS "/tools"

enum { STATUS_LIFELINE = 124, STATUS_FAILED = 125, STATUS_NOT_RUNNABLE = 126, STATUS_NOT_FOUND = 127 };

/* Connections carried at once; more wait in the kernel's queue until one ends. */
#define CONNECTIONS_MAX 256
/* What is beyond that queue's length is neither refused nor heard, and tried again by its kernel a second later. */
#define QUEUE_MAX 4096
#define BUFFER_BYTES 32768
/* A blocking pipe that poll calls writable takes as much without blocking. */
#define PIPE_BYTES 4096

/* One direction of a connection. The descriptor `from` is not read while bytes wait to be written. */
struct stream {
  int from, to;
  size_t begin, end;
  bool ended;  /* nothing more comes */
  bool closed; /* and the other side knows */
  char bytes[BUFFER_BYTES];
};

struct connection {
  struct stream up, down;
};

static struct connection *connections[CONNECTIONS_MAX];
static size_t connection_count;

__attribute__((format(printf, 1, 2))) static int complain(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  dprintf(STDERR_FILENO, "longshore-init: %s\n", text);
  return STATUS_FAILED;
}

/* A connected socket of the worker, or -1 and errno. */
static int connect_worker(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  if (length >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(address.sun_path, path, length);
  int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
    int reason = errno;
    close(descriptor);
    errno = reason;
    return -1;
  }
  return descriptor;
}

/* Whether a call failed for now only. */
static bool is_passing(int reason) { return reason == EAGAIN || reason == EWOULDBLOCK || reason == EINTR; }

static short wanted_of_source(const struct stream *stream) {
  return !stream->ended && stream->begin == stream->end ? POLLIN : 0;
}

static short wanted_of_target(const struct stream *stream) { return stream->begin < stream->end ? POLLOUT : 0; }

/* Neither may block: where it is no socket, poll has said that it is readable, or that a little can be written. */
static ssize_t read_some(int descriptor, void *bytes, size_t length) {
  ssize_t count = recv(descriptor, bytes, length, MSG_DONTWAIT);
  return count < 0 && errno == ENOTSOCK ? read(descriptor, bytes, length) : count;
}

static ssize_t write_some(int descriptor, const void *bytes, size_t length) {
  ssize_t count = send(descriptor, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count >= 0 || errno != ENOTSOCK) return count;
  return write(descriptor, bytes, length < PIPE_BYTES ? length : PIPE_BYTES);
}

/* Moves what can be moved now; false when the connection is broken. `readable` and `writable`: poll's answer. */
static bool move(struct stream *stream, bool readable, bool writable) {
  if (readable && wanted_of_source(stream)) {
    ssize_t count = read_some(stream->from, stream->bytes, sizeof stream->bytes);
    if (count < 0 && !is_passing(errno)) return false;
    if (count == 0) stream->ended = true;
    if (count > 0) {
      stream->begin = 0;
      stream->end = (size_t)count;
      return true;
    }
  }
  if (writable && stream->begin < stream->end) {
    ssize_t count = write_some(stream->to, stream->bytes + stream->begin, stream->end - stream->begin);
    if (count < 0 && !is_passing(errno)) return false;
    if (count > 0) stream->begin += (size_t)count;
  }
  if (stream->ended && !stream->closed && stream->begin == stream->end) {
    stream->closed = true;
    if (shutdown(stream->to, SHUT_WR) != 0 && errno == ENOTSOCK) close(stream->to);
  }
  return true;
}

static struct pollfd awaited(int descriptor, short events) {
  /* Nothing wanted, not even the news that it broke: that would be told over and over. */
  return (struct pollfd){.fd = events == 0 ? -1 : descriptor, .events = events};
}

static bool is_readable(const struct pollfd *entry) { return (entry->revents & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) != 0; }
static bool is_writable(const struct pollfd *entry) { return (entry->revents & (POLLOUT | POLLHUP | POLLERR | POLLNVAL)) != 0; }

/* Four entries: the sources and the targets of both directions. */
static void add_awaited(struct pollfd *entries, const struct connection *connection) {
  const struct stream *both[] = {&connection->up, &connection->down};
  for (int index = 0; index < 2; index++) {
    entries[2 * index] = awaited(both[index]->from, wanted_of_source(both[index]));
    entries[2 * index + 1] = awaited(both[index]->to, wanted_of_target(both[index]));
  }
}

/* False when the connection is over. */
static bool serve(struct connection *connection, const struct pollfd *entries) {
  if (!move(&connection->up, is_readable(&entries[0]), is_writable(&entries[1]))) return false;
  if (!move(&connection->down, is_readable(&entries[2]), is_writable(&entries[3]))) return false;
  return !(connection->up.closed && connection->down.closed);
}

static struct connection *make_connection(int near_in, int near_out, int far) {
  struct connection *connection = calloc(1, sizeof *connection);
  if (connection == NULL) return NULL;
  connection->up.from = near_in;
  connection->up.to = far;
  connection->down.from = far;
  connection->down.to = near_out;
  return connection;
}

static void accept_egress(int listener) {
  int near = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (near < 0) return;
  /* Blocks no longer than the worker's queue of connections is full. */
  int far = connect_worker(EGRESS);
  struct connection *connection = far < 0 ? NULL : make_connection(near, near, far);
  if (connection == NULL) {
    if (far >= 0) close(far);
    close(near);
    return;
  }
  connections[connection_count++] = connection;
}

static void drop_connection(size_t index) {
  close(connections[index]->up.from);
  close(connections[index]->up.to);
  free(connections[index]);
  connections[index] = connections[--connection_count];
}

/* The listening socket for egress, or -1 where the sandbox has none. Ends the process when it should and can't. */
static int listen_egress(void) {
  if (access(EGRESS, F_OK) != 0) return -1;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int yes = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(EGRESS_PORT)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  /* Connections have it from the listener: else what a provider says bit by bit waits for the agent's late acknowledgements (40 ms). */
  if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0 ||
      bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, QUEUE_MAX) != 0) {
    exit(complain("can't listen on the loopback port %d: %s", EGRESS_PORT, strerror(errno)));
  }
  return listener;
}

/* Starts the program and gives its process id, or ends the process after it told the worker why not. */
static pid_t start_program(char **command, int lifeline, const sigset_t *mask) {
  int news[2];
  if (pipe2(news, O_CLOEXEC) != 0) exit(complain("no pipe: %s", strerror(errno)));
  pid_t child = fork();
  if (child < 0) exit(complain("no process for the program: %s", strerror(errno)));
  if (child == 0) {
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(command[0], command);
    int reason = errno;
    ssize_t ignored = write(news[1], &reason, sizeof reason);
    (void)ignored;
    _exit(STATUS_NOT_FOUND);
  }
  close(news[1]);
  int reason = 0;
  /* The program's exec closes the pipe. */
  ssize_t count = read(news[0], &reason, sizeof reason);
  close(news[0]);
  if (count == (ssize_t)sizeof reason) {
    dprintf(lifeline, "failed %d\n", reason);
    complain("can't run %s: %s", command[0], strerror(reason));
    exit(reason == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUNNABLE);
  }
  dprintf(lifeline, "started\n");
  return child;
}

/* The status to end with where the program has ended, else -1. */
static int reap(pid_t program) {
  int result = -1, status;
  for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (ended == program) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return result;
}

static int pass_signals(int signals, pid_t program) {
  struct signalfd_siginfo told;
  while (read(signals, &told, sizeof told) == (ssize_t)sizeof told) {
    if (told.ssi_signo != SIGCHLD) kill(program, (int)told.ssi_signo);
  }
  return reap(program);
}

static int run(char **command) {
  /* Same user, so the program could read and write this process's memory, and hold the lifeline for it. */
  prctl(PR_SET_DUMPABLE, 0);
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) return complain("no signal descriptor: %s", strerror(errno));
  int lifeline = connect_worker(LIFELINE);
  if (lifeline < 0) {
    return complain("can't reach the worker (gVisor needs --host-uds=open): %s", strerror(errno));
  }
  int listener = listen_egress();
  pid_t program = start_program(command, lifeline, &before);
  /* The end of the program's streams is the program's to say. */
  for (int descriptor = 0; descriptor <= 2; descriptor++) close(descriptor);

  enum { SIGNALS, LINE, LISTENER, FIXED };
  static struct pollfd entries[FIXED + 4 * CONNECTIONS_MAX];
  for (;;) {
    size_t polled = connection_count;
    entries[SIGNALS] = awaited(signals, POLLIN);
    entries[LINE] = awaited(lifeline, POLLIN);
    entries[LISTENER] = awaited(listener, polled < CONNECTIONS_MAX ? POLLIN : 0);
    for (size_t index = 0; index < polled; index++) add_awaited(&entries[FIXED + 4 * index], connections[index]);
    if (poll(entries, FIXED + 4 * polled, -1) < 0) {
      if (errno == EINTR) continue;
      return STATUS_FAILED;
    }
    if (entries[SIGNALS].revents != 0) {
      int status = pass_signals(signals, program);
      if (status >= 0) return status;
    }
    /* The worker never writes to it: whatever comes is its end. */
    if (entries[LINE].revents != 0) return STATUS_LIFELINE;
    for (size_t index = polled; index-- > 0;) {
      if (!serve(connections[index], &entries[FIXED + 4 * index])) drop_connection(index);
    }
    if (entries[LISTENER].revents != 0) accept_egress(listener);
  }
}

static int carry_tools(void) {
  int far = connect_worker(TOOLS);
  if (far < 0) return complain("the worker offers no tools here: %s", strerror(errno));
  signal(SIGPIPE, SIG_IGN);
  struct connection *connection = make_connection(STDIN_FILENO, STDOUT_FILENO, far);
  if (connection == NULL) return complain("out of memory");
  for (;;) {
    struct pollfd entries[4];
    add_awaited(entries, connection);
    if (poll(entries, 4, -1) < 0 && errno != EINTR) return STATUS_FAILED;
    /* Over with the worker's end, too: the reader of standard output is gone, or was told all. */
    if (!serve(connection, entries) || connection->down.closed) return 0;
  }
}

int main(int count, char **arguments) {
  if (count >= 3 && strcmp(arguments[1], "run") == 0) return run(arguments + 2);
  if (count == 2 && strcmp(arguments[1], "mcp") == 0) return carry_tools();
  return complain("usage: longshore-init run PROGRAM [ARGUMENT...] | longshore-init mcp");
}
