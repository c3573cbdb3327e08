import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { requireProgram } from "./debian-packages.ts";
import { onFreePorts } from "./free-port.ts";
import { launch } from "./launch.ts";
import { type Service, ServiceProcess } from "./service.ts";

/** A private Redis. */
export interface Redis extends Service {
  /** `redis://127.0.0.1:PORT` */
  readonly url: string;
}

export interface PrivateServiceOptions {
  /** A directory of the caller's for data and logs; made when missing, and the caller's to remove. */
  readonly directory: string;
  /** Ends the start. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Starts a Redis as the fleet needs one: on loopback, append-only file on (flushed each second), never
 * evicting. It keeps its data over a restart.
 */
export async function startRedis(options: PrivateServiceOptions): Promise<Redis> {
  return await onFreePorts(1, (port = 0) => startRedisServer({ ...options, port }));
}

export interface RedisServerOptions extends PrivateServiceOptions {
  readonly port: number;
  /** More arguments of `redis-server`, after the ones that all have. @default none */
  readonly settings?: readonly string[];
}

/** The same on a port that is given, with more settings. */
export async function startRedisServer({
  port,
  directory,
  settings = [],
  signal,
}: RedisServerOptions): Promise<Redis> {
  const program = requireProgram("redis-server");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const redis = await ServiceProcess.start(() =>
    launch({
      name: "redis-server",
      command: [
        program,
        ...["--bind", "127.0.0.1", "--port", String(port), "--dir", directory],
        ...["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""],
        ...["--maxmemory-policy", "noeviction", "--daemonize", "no"],
        ...settings,
      ],
      logFile: join(directory, "redis.log"),
      answers: () => answersPing(port),
      startTimeoutMs: 20_000,
      signal,
    }),
  );
  return {
    url: `redis://127.0.0.1:${port}`,
    get pid() {
      return redis.pid;
    },
    stop: () => redis.stop(),
    kill: () => redis.kill(),
    restart: () => redis.restart(),
    signal: (name) => redis.signal(name),
    [Symbol.asyncDispose]: () => redis.stop(),
  };
}

/** Whether it serves commands: while it loads its file it answers with an error. */
export async function answersPing(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  try {
    socket.setTimeout(1_000, () => socket.destroy(new Error("no answer within a second")));
    socket.write("PING\r\n");
    const [answer] = (await once(socket, "data")) as [Buffer];
    return answer.toString("latin1").startsWith("+PONG");
  } finally {
    socket.destroy();
  }
}
