import { connectRedis, type RedisClient } from "@longshore/shared";
import { startRedis } from "../../../infra/setup/redis.ts";
import { median } from "../turns.ts";
import { failBench } from "./fail-bench.ts";

const PINGS = 1_000;
/** How often it is looked whether keys still expire, in ms. */
const EXPIRY_LOOK_MS = 1_000;

/** A Redis of the benchmark's own, set up as the fleet needs one: what runs on it is all that it holds. */
export class BenchRedis implements AsyncDisposable {
  readonly url: string;
  readonly #connection: RedisClient;
  readonly #stack: AsyncDisposableStack;

  /** @param directory for its data; made where it is missing */
  static async start(directory: string): Promise<BenchRedis> {
    await using stack = new AsyncDisposableStack();
    const { url } = stack.use(await startRedis({ directory }));
    const connection = connectRedis(url, { onError: failBench });
    stack.defer(() => connection.disconnect());
    return new BenchRedis(url, connection, stack.move());
  }

  private constructor(url: string, connection: RedisClient, stack: AsyncDisposableStack) {
    this.url = url;
    this.#connection = connection;
    this.#stack = stack;
  }

  /** Empties it, so that each measurement begins with the same. */
  async flush(): Promise<void> {
    await this.#connection.flushall("SYNC");
  }

  /** Bytes that it uses now, once what has expired is gone. */
  async usedBytes(): Promise<number> {
    for (let before = -1; ; ) {
      const keys = await this.#connection.dbsize();
      if (keys === before)
        return Number(/^used_memory:(\d+)/m.exec(await this.#connection.info("memory"))?.[1]);
      before = keys;
      await new Promise((resolve) => setTimeout(resolve, EXPIRY_LOOK_MS));
    }
  }

  /** The median of a command's way there and back, in ms. */
  async roundTripMs(): Promise<number> {
    const times: number[] = [];
    for (let ping = 0; ping < PINGS; ping++) {
      const start = performance.now();
      await this.#connection.ping();
      times.push(performance.now() - start);
    }
    return median(times);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
