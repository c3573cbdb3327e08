import type { Backend, SessionStoreOptions } from "@longshore/session-store";
import { SessionStore } from "@longshore/session-store";
import { fingerprint, type TestStore } from "./support.ts";

type ArgumentsOf<Name extends keyof Backend> = Backend[Name] extends (...args: infer A) => unknown
  ? A
  : never;

/** The time of a store and of all hosts that use it, which a test can let pass. */
export class StoreTime {
  #skippedMs = 0;
  /** When objects were put: their own times are those of the real store. */
  readonly puts = new Map<string, number>();

  now(): number {
    return Date.now() + this.#skippedMs;
  }

  monotonic(): number {
    return this.now();
  }

  skip(ms: number): void {
    this.#skippedMs += ms;
  }
}

export interface Request {
  readonly operation: string;
  readonly key: string;
  /** Before the request is sent, or after it took place and before its answer is there. */
  readonly phase: "before" | "after";
}

/** A real store under a time of its own, each of whose requests a test can hold or fail. */
export class TimedBackend implements Backend {
  readonly url: string;
  readonly #inner: Backend;
  readonly #time: StoreTime;
  /** Awaited at each request; what it throws is what the caller gets. */
  onRequest: (request: Request) => void | Promise<void> = () => undefined;

  constructor(inner: Backend, time: StoreTime) {
    this.url = inner.url;
    this.#inner = inner;
    this.#time = time;
  }

  get(...args: ArgumentsOf<"get">): ReturnType<Backend["get"]> {
    return this.#request("get", args[0], () => this.#inner.get(...args));
  }

  putIfAbsent(...args: ArgumentsOf<"putIfAbsent">): ReturnType<Backend["putIfAbsent"]> {
    return this.#request("put", args[0], async () => {
      const { outcome } = await this.#inner.putIfAbsent(...args);
      const storeTimeMs = this.#time.now();
      if (outcome === "created") this.#time.puts.set(args[0], storeTimeMs);
      return { outcome, storeTimeMs };
    });
  }

  replace(...args: ArgumentsOf<"replace">): ReturnType<Backend["replace"]> {
    return this.#request("put", args[0], () => this.#inner.replace(...args));
  }

  list(...args: ArgumentsOf<"list">): ReturnType<Backend["list"]> {
    return this.#request("list", args[0], async () => {
      const storeTimeMs = this.#time.now();
      const listing = await this.#inner.list(...args);
      const objects = listing.objects.map((object) => ({
        ...object,
        modifiedMs: this.#time.puts.get(object.key) ?? object.modifiedMs,
      }));
      return { ...listing, objects, storeTimeMs };
    });
  }

  delete(...args: ArgumentsOf<"delete">): ReturnType<Backend["delete"]> {
    return this.#request("delete", args[0][0] ?? "", () => this.#inner.delete(...args));
  }

  head(...args: ArgumentsOf<"head">): ReturnType<Backend["head"]> {
    return this.#request("head", args[0], () => this.#inner.head(...args));
  }

  presignGet(...args: ArgumentsOf<"presignGet">): ReturnType<Backend["presignGet"]> {
    return this.#inner.presignGet(...args);
  }

  close(): void {
    this.#inner.close();
  }

  async #request<T>(operation: string, key: string, send: () => Promise<T>): Promise<T> {
    await this.onRequest({ operation, key, phase: "before" });
    const answer = await send();
    await this.onRequest({ operation, key, phase: "after" });
    return answer;
  }
}

/** A way to a test's objects under a time of the test's. */
export function timedStore(
  test: TestStore,
  time: StoreTime,
  options: Partial<SessionStoreOptions> = {},
): { readonly store: SessionStore; readonly backend: TimedBackend } & AsyncDisposable {
  const backend = new TimedBackend(test.openBackend(), time);
  const store = new SessionStore({ backend, clock: time, threads: 1, ...options });
  return { store, backend, [Symbol.asyncDispose]: () => store.close() };
}

export const HOUR_MS = 60 * 60 * 1000;
export const DAY_MS = 24 * HOUR_MS;

/** All keys of a test's objects below a prefix. */
export async function keysOf(test: TestStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for (let startAfter = ""; ; ) {
    const page = await test.backend.list(prefix, { startAfter });
    keys.push(...page.objects.map((object) => object.key));
    if (!page.more) return keys;
    startAfter = keys.at(-1) ?? "";
  }
}

/** What a restore of a generation from nothing gives. */
export async function restoredTree(
  test: TestStore,
  store: SessionStore,
  ref: { tenant: string; sessionId: string },
  generation: number,
): Promise<Record<string, string>> {
  const directory = test.directory();
  using _ = await store.hydrate(ref, await store.readCommit(ref, generation), directory);
  return fingerprint(directory);
}
