import { randomBytes } from "node:crypto";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Commit, SessionStore, type WorkingCopy } from "@longshore/session-store";
import { LongshoreError } from "@longshore/shared";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fingerprint, meta, s3Options, TestStore } from "../conformance/session-store/support.ts";
import { type Fault, FaultProxy, faults } from "./fault-proxy.ts";

// Random operations meet random faults. Whatever comes of it, the session is wholly as before or wholly as it was to be,
// errors say which of the two, and what is restored is right.

const RUNS = 25;
const STEPS_MAX = 6;

/** What may be said of a store that fails. */
const ERRORS = [
  "STORE_UNAVAILABLE",
  "STORE_ACCESS_DENIED",
  "STORE_CORRUPT",
  "PUT_AMBIGUOUS",
  "COMMIT_UNSETTLED",
];

const step = fc.constantFrom("turn", "large turn", "undo", "rollback", "restore elsewhere");
/** Those that end an operation at once are rare, so that others get their turn. */
const fault = fc.oneof(
  { weight: 12, arbitrary: fc.constant(undefined) },
  {
    weight: 8,
    arbitrary: fc.constantFrom<Fault>(...faults.filter((kind) => !isFinal(kind) && !isSlow(kind))),
  },
  { weight: 1, arbitrary: fc.constantFrom<Fault>(...faults.filter(isFinal)) },
  { weight: 1, arbitrary: fc.constantFrom<Fault>(...faults.filter(isSlow)) },
);

function isFinal(kind: Fault): boolean {
  return kind === "denied" || kind === "corrupt";
}

/** Costs a time-out. */
function isSlow(kind: Fault): boolean {
  return kind === "hang" || kind === "hang-after" || kind === "drip";
}

type Tree = Record<string, string>;

/** A session through a failing store, and what it must hold. */
class FaultySession {
  readonly ref = { tenant: "acme", sessionId: randomBytes(8).toString("hex") };
  readonly #test: TestStore;
  readonly #store: SessionStore;
  readonly #withFaults: <T>(operation: () => Promise<T>) => Promise<T>;
  /** By generation, the empty one first. */
  readonly #trees: Tree[] = [{}];
  #newest: Commit | undefined;
  #copy: WorkingCopy | undefined;

  constructor(
    test: TestStore,
    store: SessionStore,
    withFaults: <T>(operation: () => Promise<T>) => Promise<T>,
  ) {
    this.#test = test;
    this.#store = store;
    this.#withFaults = withFaults;
  }

  async take(step: string): Promise<void> {
    const copy = this.#copy ?? (await this.#hydrate());
    this.#copy = copy;
    switch (step) {
      case "turn":
      case "large turn": {
        writeFileSync(join(copy.directory, "small"), randomBytes(100));
        if (step === "large turn") writeFileSync(join(copy.directory, "large"), randomBytes(50_000));
        const tree = fingerprint(copy.directory);
        await this.#changing(tree, async () => copy.commit(await copy.mirror(), meta()));
        return;
      }
      case "rollback": {
        if (this.#newest === undefined) return;
        const newest = this.#newest;
        await this.#changing({}, () => this.#store.rollback(this.ref, newest, undefined, meta()));
        // Somebody else's commit, as far as the working copy knows.
        this.#drop();
        return;
      }
      case "undo":
        writeFileSync(join(copy.directory, "small"), "half done");
        writeFileSync(join(copy.directory, "junk"), "junk");
        if (await this.#failing(() => copy.restore())) return this.#drop();
        expect(fingerprint(copy.directory)).toEqual(this.#trees.at(-1));
        return;
      default: {
        const elsewhere = this.#test.directory();
        const failed = await this.#failing(async () => {
          const newest = await this.#store.readNewest(this.ref);
          expect(newest?.id).toBe(this.#newest?.id);
          using _ = await this.#store.hydrate(this.ref, newest, elsewhere);
        });
        if (!failed) expect(fingerprint(elsewhere)).toEqual(this.#trees.at(-1));
        else if (readdirSync(elsewhere).length > 0) {
          await expect(this.#store.hydrate(this.ref, this.#newest, elsewhere)).rejects.toMatchObject({
            code: "DIRECTORY_NOT_EMPTY",
          });
        }
        rmSync(elsewhere, { recursive: true });
      }
    }
  }

  close(): void {
    this.#copy?.close();
  }

  /** Runs what makes a generation, and finds out whether it did as it said. */
  async #changing(tree: Tree, operation: () => ReturnType<WorkingCopy["commit"]>): Promise<void> {
    const before = this.#newest;
    let outcome = "failed";
    const failure = await this.#failing(async () => {
      const result = await operation();
      outcome = result.outcome;
      expect(result.commit.generation).toBe(this.#trees.length);
    });
    // With one writer nobody can have been faster, whatever the store answers.
    if (failure === undefined) expect(outcome).toBe("committed");
    const newest = await this.#store.readNewest(this.ref);
    const happened = newest?.id !== before?.id;
    if (failure === undefined) expect(happened).toBe(true);
    // Only an error that says so leaves open whether it took place.
    else if (happened) expect(failure.code).toBe("COMMIT_UNSETTLED");
    if (happened) this.#trees.push(tree);
    this.#newest = newest;
    if (failure !== undefined) this.#drop();
    await this.#check();
  }

  /** The newest generation is whole. */
  async #check(): Promise<void> {
    const directory = this.#test.directory();
    using _ = await this.#store.hydrate(this.ref, this.#newest, directory);
    expect(fingerprint(directory)).toEqual(this.#trees.at(-1));
    rmSync(directory, { recursive: true });
  }

  /** @returns the error, which has to be one of the store's */
  async #failing(operation: () => Promise<void>): Promise<LongshoreError | undefined> {
    try {
      await this.#withFaults(operation);
      return undefined;
    } catch (error) {
      if (!(error instanceof LongshoreError)) throw error;
      expect(ERRORS).toContain(error.code);
      return error;
    }
  }

  async #hydrate(): Promise<WorkingCopy> {
    return await this.#store.hydrate(this.ref, this.#newest, this.#test.directory());
  }

  #drop(): void {
    this.#copy?.close();
    this.#copy = undefined;
  }
}

describe("random faults", () => {
  it("leave a session wholly as before or wholly as it was to be, and errors say which", {
    timeout: 300_000,
  }, async () => {
    await using proxy = await FaultProxy.start(s3Options().endpoint ?? "");
    const retry = { attempts: 4, firstMs: 1, longestMs: 2 };
    await using test = await TestStore.open("s3", { endpoint: proxy.url, timeoutMs: 200, retry });
    const store = new SessionStore({ backend: test.openBackend(), random: () => 0 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: STEPS_MAX }),
        fc.infiniteStream(fault),
        async (steps, schedule) => {
          const session = new FaultySession(test, store, async (operation) => {
            proxy.rule = (_method, path) => {
              const kind = schedule.next().value;
              // Nothing in the protocol tells a list with a wrong bit from another list; TLS does.
              return kind === "corrupt" && !path.includes("/acme/") ? undefined : kind;
            };
            try {
              return await operation();
            } finally {
              proxy.rule = () => undefined;
            }
          });
          try {
            for (const name of steps) await session.take(name);
          } finally {
            session.close();
          }
        },
      ),
      { numRuns: RUNS },
    );
    expect(proxy.faults).toBeGreaterThan(RUNS);
    await store.close();
  });
});
