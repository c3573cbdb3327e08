import { rmSync } from "node:fs";
import type { Commit } from "@longshore/session-store";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { attempt, change } from "./random-changes.ts";
import { fingerprint, keptFingerprint, meta, type StoreKind, storeKinds, TestStore } from "./support.ts";

// Random trees go through random changes, with a commit here and there; what another host restores must be the same.

const RUNS = 15;

describe.each(storeKinds)("random trees on %s", (kind: StoreKind) => {
  it("are restored as they were, from nothing and over any other generation", {
    timeout: 600_000,
  }, async () => {
    await using test = await TestStore.open(kind);
    let session = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(change, { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 5 }),
        fc.array(fc.nat(100), { minLength: 2, maxLength: 6 }),
        fc.array(change, { maxLength: 4 }),
        async (turns, journey, disturbances) => {
          const ref = { tenant: "acme", sessionId: `random${session++}` };
          const here = test.directory();
          using copy = await test.store.hydrate(ref, undefined, here);
          const generations: {
            readonly commit: Commit | undefined;
            readonly tree: Record<string, string>;
          }[] = [{ commit: undefined, tree: {} }];
          for (const turn of turns) {
            for (const apply of turn) attempt(apply, here);
            const result = await copy.commit(await copy.mirror(), meta());
            expect(result.outcome).toBe("committed");
            generations.push({ commit: result.commit, tree: keptFingerprint(here) });
          }
          // Another host goes forth and back between generations, each time with changes of its own to be undone.
          const there = test.directory();
          using traveller = await test.store.hydrate(ref, undefined, there);
          for (const stop of journey) {
            const generation = generations[stop % generations.length];
            for (const apply of disturbances) attempt(apply, there);
            if (generation?.commit === undefined) continue;
            await traveller.restore(generation.commit);
            expect(withoutSpecial(fingerprint(there))).toEqual(generation.tree);
            expect((await traveller.mirror()).isEmpty).toBe(true);
          }
          const newest = await test.store.readNewest(ref);
          expect(newest?.id).toBe(generations.at(-1)?.commit?.id);
          const cold = test.directory();
          using restored = await test.store.hydrate(ref, newest, cold);
          expect(fingerprint(cold)).toEqual(generations.at(-1)?.tree);
          expect((await restored.mirror()).isEmpty).toBe(true);
          for (const directory of [here, there, cold]) rmSync(directory, { recursive: true });
        },
      ),
      { numRuns: RUNS },
    );
  });
});

/** A restore leaves FIFOs alone that stand where the generation has nothing: no generation speaks of them. */
function withoutSpecial(tree: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(tree).filter(([, seen]) => seen !== "special"));
}
