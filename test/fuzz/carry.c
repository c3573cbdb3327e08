/*
 * Fuzzes how longshore-init carries bytes between the agent and the worker: what both ends send, read, end and break off, in any
 * order, with a step of the helper in between, as the input says. Both ends check what arrives.
 *
 * With libFuzzer (clang -fsanitize=fuzzer) guided by coverage; else (-DRANDOM_INPUTS) `PROGRAM SEED COUNT` tries random inputs.
 */
#define main longshore_init_main
#include "../../packages/sandbox/init/longshore-init.c"
#undef main
#include <stdint.h>

/* More than an input can bring the helper to do in steps, each of which moves or ends something. */
#define STEPS_MAX 100000
#define SENT_MAX 65536

/* One end of the connection: `in` and `out` are one socket, or the ends of two pipes, as of standard input and output. */
struct end {
  int in, out;
  size_t sent, received;
  bool has_ended; /* sends nothing more */
  bool is_gone;   /* reads nothing more either */
  bool was_told;  /* that the other side sends nothing more */
};

static void require(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "violated: %s\n", what);
  abort();
}

static char byte_at(size_t index, int side) { return (char)(index * 131 + index / 256 + (size_t)side); }

static void close_end(struct end *end) {
  if (end->in >= 0) close(end->in);
  if (end->out >= 0 && end->out != end->in) close(end->out);
  end->in = end->out = -1;
  end->has_ended = end->is_gone = true;
}

static void send_bytes(struct end *end, int side, size_t most) {
  static char bytes[SENT_MAX];
  if (end->has_ended) return;
  for (size_t index = 0; index < most; index++) bytes[index] = byte_at(end->sent + index, side);
  ssize_t count = write(end->out, bytes, most);
  if (count > 0) end->sent += (size_t)count;
}

static void end_bytes(struct end *end) {
  if (end->has_ended) return;
  end->has_ended = true;
  if (end->in == end->out) {
    shutdown(end->out, SHUT_WR);
    return;
  }
  close(end->out);
  end->out = -1;
}

static void receive_bytes(struct end *end, const struct end *from, int side, size_t most) {
  static char bytes[SENT_MAX];
  if (end->is_gone) return;
  ssize_t count = read(end->in, bytes, most);
  if (count == 0) end->was_told = true;
  for (ssize_t index = 0; index < count; index++)
    require(bytes[index] == byte_at(end->received + (size_t)index, side), "bytes arrive as they were sent");
  if (count > 0) end->received += (size_t)count;
  require(end->received <= from->sent, "no more arrives than was sent");
}

/* False when it is over. */
static bool step(struct connection *connection) {
  struct pollfd entries[4];
  add_awaited(entries, connection);
  return poll(entries, 4, 0) < 0 || serve(connection, entries);
}

static void make_pair(int pair[2]) {
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0, "there are sockets");
}

static void make_pipe(int pair[2]) { require(pipe2(pair, O_NONBLOCK | O_CLOEXEC) == 0, "there are pipes"); }

static void try_input(const uint8_t *data, size_t size) {
  if (size == 0) return;
  bool has_pipes = data[0] & 1;
  int far_pair[2], near_pair[2], back_pair[2];
  struct end near = {0}, far = {0};
  struct connection *connection;
  make_pair(far_pair);
  far.in = far.out = far_pair[0];
  if (has_pipes) {
    make_pipe(near_pair);
    make_pipe(back_pair);
    near.out = near_pair[1], near.in = back_pair[0];
    connection = make_connection(near_pair[0], back_pair[1], far_pair[1]);
  } else {
    make_pair(near_pair);
    near.in = near.out = near_pair[0];
    connection = make_connection(near_pair[1], near_pair[1], far_pair[1]);
  }
  require(connection != NULL, "there is memory");
  bool is_over = false;
  for (size_t index = 1; index < size && !is_over; index++) {
    struct end *end = data[index] & 8 ? &far : &near;
    const struct end *other = end == &near ? &far : &near;
    int side = end == &far;
    size_t most = (size_t)1 << (data[index] >> 4);
    switch (data[index] & 7) {
      case 0: case 1: send_bytes(end, side, most); break;
      case 2: case 3: receive_bytes(end, other, !side, most); break;
      case 4: end_bytes(end); break;
      case 5: if (data[index] >> 4 == 15) close_end(end); break;
      default: is_over = !step(connection);
    }
  }
  bool was_cut = near.is_gone || far.is_gone;
  end_bytes(&near);
  end_bytes(&far);
  for (size_t steps = 0; !is_over; steps++) {
    require(steps < STEPS_MAX, "a connection whose ends have ended is over");
    is_over = !step(connection);
    receive_bytes(&near, &far, 1, SENT_MAX);
    receive_bytes(&far, &near, 0, SENT_MAX);
  }
  if (!was_cut) {
    /* What was written last may be in the kernel's hands only. */
    for (int round = 0; round < 64; round++) {
      receive_bytes(&near, &far, 1, SENT_MAX);
      receive_bytes(&far, &near, 0, SENT_MAX);
    }
    require(near.received == far.sent && far.received == near.sent, "all that was sent arrives");
    require(near.was_told && far.was_told, "both ends are told that it is over");
  }
  if (!has_pipes || !connection->down.closed) close(connection->down.to);
  if (has_pipes) close(connection->up.from);
  close(connection->up.to);
  free(connection);
  close_end(&near);
  close_end(&far);
}

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerInitialize(int *count, char ***arguments) {
  (void)count, (void)arguments;
  signal(SIGPIPE, SIG_IGN);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  (void)longshore_init_main;
  try_input(data, size);
  return 0;
}

#ifdef RANDOM_INPUTS
/* xorshift64 (Marsaglia, 2003). */
static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

int main(int count, char **arguments) {
  static uint8_t input[512];
  if (count != 3) return complain("usage: PROGRAM SEED COUNT");
  LLVMFuzzerInitialize(NULL, NULL);
  uint64_t state = strtoull(arguments[1], NULL, 10) | 1;
  for (unsigned long left = strtoul(arguments[2], NULL, 10); left > 0; left--) {
    size_t size = next_random(&state) % sizeof input;
    for (size_t index = 0; index < size; index++) input[index] = (uint8_t)(next_random(&state) >> 32);
    LLVMFuzzerTestOneInput(input, size);
  }
  return 0;
}
#endif
