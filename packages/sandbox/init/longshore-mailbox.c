/*
 * longshore-mailbox: the worker's hand at the two databases of the contract `mailbox-db`, inside the sandbox. What a hostile agent
 * makes of the files (a link in their place, a lock held for ever, a crafted database) meets nothing but this process.
 *
 *   longshore-mailbox PROGRAM [ARGUMENT...]
 *
 * A request is a line on standard input, its answer a line on standard output:
 *
 *   inbound|outbound TAB SQL TAB PARAMETER
 *       Opens the database, runs the statements, each with the parameter (a text) as ?1 where it has one, closes it.
 *       Answer: ok TAB the first column of the first row of the last statement that gave a row.
 *   start
 *       Runs the program: in /workspace/agent, with nothing to read, its output on standard error. Answer: ok TAB.
 *
 * Else the answer is: error TAB why. It ends as the program ends, and passes SIGTERM on to it. Exit statuses of its own: 125 it could
 * not do its part, 126 the program can't be run, 127 there is no such program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MAILBOX
#define MAILBOX "/workspace"
#endif
#define WORKING_DIRECTORY MAILBOX "/agent"

enum { STATUS_FAILED = 125, STATUS_NOT_RUNNABLE = 126, STATUS_NOT_FOUND = 127 };

/* As the contract has it: how long a lock of the other side is waited for. */
#define BUSY_MS 5000
/* The longest that one request may take: a view without an end must not hold the worker up. */
#define REQUEST_SECONDS 8
/* Instructions of SQLite between two looks at the clock. */
#define INSTRUCTIONS 100000
/* The longest text or row. */
#define TEXT_BYTES_MAX (64 * 1024 * 1024)

/* SQLite could load extensions from files; linked statically it must not, and these are what it would do it by. */
void *dlopen(const char *name, int flags) { (void)name, (void)flags; return NULL; }
void *dlsym(void *restrict handle, const char *restrict name) { (void)handle, (void)name; return NULL; }
int dlclose(void *handle) { (void)handle; return 0; }
char *dlerror(void) { static char none[] = "there are no extensions"; return none; }

static int complain(const char *what) {
  dprintf(STDERR_FILENO, "longshore-mailbox: %s: %s\n", what, strerror(errno));
  return STATUS_FAILED;
}

static bool write_all(const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t count = write(STDOUT_FILENO, bytes, length);
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) bytes += count, length -= (size_t)count;
  }
  return true;
}

/* The text may not have a line's end in it: JSON has none, and of an error it is replaced. */
static bool answer(const char *how, char *text) {
  for (char *at = text; *at != '\0'; at++) {
    if (*at == '\n' || *at == '\r') *at = ' ';
  }
  return write_all(how, strlen(how)) && write_all("\t", 1) && write_all(text, strlen(text)) && write_all("\n", 1);
}

static int is_late(void *deadline) { return time(NULL) > *(time_t *)deadline; }

/* The statements' result, to be freed, or NULL where there is none; false after an error. */
static bool run_statements(sqlite3 *database, const char *sql, const char *parameter, char **result) {
  while (*sql != '\0') {
    sqlite3_stmt *statement = NULL;
    const char *rest;
    if (sqlite3_prepare_v2(database, sql, -1, &statement, &rest) != SQLITE_OK) return false;
    sql = rest;
    if (statement == NULL) continue;
    if (sqlite3_bind_parameter_count(statement) > 0) sqlite3_bind_text(statement, 1, parameter, -1, SQLITE_STATIC);
    bool is_first = true;
    int step;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
      const unsigned char *text = is_first ? sqlite3_column_text(statement, 0) : NULL;
      if (is_first) {
        free(*result);
        *result = text == NULL ? NULL : strdup((const char *)text);
      }
      is_first = false;
    }
    sqlite3_finalize(statement);
    if (step != SQLITE_DONE) return false;
  }
  return true;
}

static bool serve_database(const char *name, const char *sql, const char *parameter) {
  char path[64];
  snprintf(path, sizeof path, MAILBOX "/%s.db", name);
  sqlite3 *database = NULL;
  char *result = NULL;
  time_t deadline = time(NULL) + REQUEST_SECONDS;
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX;
  bool done = sqlite3_open_v2(path, &database, flags, NULL) == SQLITE_OK;
  if (done) {
    sqlite3_busy_timeout(database, BUSY_MS);
    sqlite3_limit(database, SQLITE_LIMIT_LENGTH, TEXT_BYTES_MAX);
    sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_progress_handler(database, INSTRUCTIONS, is_late, &deadline);
    /* No memory map: the other side may make the file shorter at any time. */
    sqlite3_exec(database, "PRAGMA mmap_size = 0", NULL, NULL, NULL);
    done = run_statements(database, sql, parameter, &result);
  }
  char *error = done ? NULL : strdup(database == NULL ? "out of memory" : sqlite3_errmsg(database));
  /* What was begun and not committed is undone. */
  sqlite3_close(database);
  char nothing[] = "";
  bool told = answer(done ? "ok" : "error", error != NULL ? error : result != NULL ? result : nothing);
  free(error);
  free(result);
  return told;
}

static pid_t start_program(char **command, const sigset_t *mask) {
  /* Made once; what the agent puts in its place is its own affair. */
  if (symlink("workspace", WORKING_DIRECTORY) != 0 && errno != EEXIST) complain(WORKING_DIRECTORY);
  pid_t child = fork();
  if (child != 0) return child;
  sigprocmask(SIG_SETMASK, mask, NULL);
  signal(SIGPIPE, SIG_DFL);
  int nothing = open("/dev/null", O_RDONLY);
  if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) _exit(STATUS_FAILED);
  if (nothing > STDERR_FILENO) close(nothing);
  if (chdir(WORKING_DIRECTORY) != 0) complain(WORKING_DIRECTORY);
  execvp(command[0], command);
  int reason = errno;
  complain(command[0]);
  _exit(reason == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_RUNNABLE);
}

/* False when the worker can't be told any more. */
static bool serve(char *line, char **command, const sigset_t *mask, pid_t *program) {
  if (strcmp(line, "start") == 0 && *program < 0) {
    *program = start_program(command, mask);
    char reason[] = "no process for the program", nothing[] = "";
    return *program < 0 ? answer("error", reason) : answer("ok", nothing);
  }
  char *sql = strchr(line, '\t');
  char *parameter = sql == NULL ? NULL : strchr(sql + 1, '\t');
  if (parameter != NULL) {
    *sql++ = '\0';
    *parameter++ = '\0';
    if (strcmp(line, "inbound") == 0 || strcmp(line, "outbound") == 0) return serve_database(line, sql, parameter);
  }
  char reason[] = "no request";
  return answer("error", reason);
}

/* The status to end with where the program has ended, else -1. */
static int handle_signals(int signals, pid_t program) {
  struct signalfd_siginfo told;
  while (read(signals, &told, sizeof told) == (ssize_t)sizeof told) {
    if (told.ssi_signo != SIGTERM) continue;
    if (program < 0) return 128 + SIGTERM;
    kill(program, SIGTERM);
  }
  int result = -1, status;
  for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (ended == program) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return result;
}

int main(int count, char **arguments) {
  if (count < 2) {
    dprintf(STDERR_FILENO, "longshore-mailbox: usage: longshore-mailbox PROGRAM [ARGUMENT...]\n");
    return STATUS_FAILED;
  }
  /* Same user, so the program could read and write this process's memory and descriptors. */
  prctl(PR_SET_DUMPABLE, 0);
  sigset_t own, before;
  sigemptyset(&own);
  sigaddset(&own, SIGCHLD);
  sigaddset(&own, SIGTERM);
  sigprocmask(SIG_BLOCK, &own, &before);
  signal(SIGPIPE, SIG_IGN);
  int signals = signalfd(-1, &own, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) return complain("no signal descriptor");

  pid_t program = -1;
  char *buffer = NULL;
  size_t used = 0, size = 0;
  struct pollfd entries[] = {{.fd = signals, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
  for (;;) {
    if (poll(entries, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return complain("poll");
    }
    if (entries[0].revents != 0) {
      int status = handle_signals(signals, program);
      if (status >= 0) return status;
    }
    if (entries[1].revents == 0) continue;
    if (size - used < 65536) {
      char *larger = realloc(buffer, size == 0 ? 131072 : size * 2);
      if (larger == NULL) return complain("a request is too long");
      buffer = larger;
      size = size == 0 ? 131072 : size * 2;
    }
    ssize_t got = read(STDIN_FILENO, buffer + used, size - used - 1);
    if (got < 0 && errno == EINTR) continue;
    /* The worker asks for nothing more; the program may go on until it is stopped. */
    if (got <= 0) {
      entries[1].fd = -1;
      continue;
    }
    char *line = buffer, *end;
    char *from = buffer + used;
    used += (size_t)got;
    while ((end = memchr(from, '\n', (size_t)(buffer + used - from))) != NULL) {
      *end = '\0';
      if (!serve(line, arguments + 1, &before, &program)) entries[1].fd = -1;
      line = from = end + 1;
    }
    used = (size_t)(buffer + used - line);
    memmove(buffer, line, used);
  }
}
