import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { REF, type StoreKind, storeKinds, TestStore } from "./support.ts";

const hashOf = (text: string) => createHash("sha256").update(text).digest("hex");

describe.each(storeKinds)("finding accepted contents on %s", (kind: StoreKind) => {
  let test: TestStore;

  beforeEach(async () => {
    test = await TestStore.open(kind);
  });

  afterEach(async () => {
    await test[Symbol.asyncDispose]();
  });

  it("tells those that are there from those that are not", async () => {
    const texts = Array.from({ length: 30 }, (_, index) => `content ${index}`);
    for (const text of texts.filter((_, index) => index % 3 === 0))
      await test.store.putInbound(REF, Buffer.from(text));
    const found = await test.store.findInbound(REF, texts.map(hashOf));
    expect(found).toEqual(new Set(texts.filter((_, index) => index % 3 === 0).map(hashOf)));
    expect(await test.store.findInbound({ ...REF, sessionId: "other" }, texts.map(hashOf))).toEqual(
      new Set(),
    );
  });

  it("asks no more often than there are pages of what is kept", async () => {
    await test.store.putInbound(REF, Buffer.from("one"));
    test.requests.length = 0;
    const many = Array.from({ length: 5_000 }, (_, index) => hashOf(`content ${index}`));
    expect(await test.store.findInbound(REF, [...many, hashOf("one")])).toEqual(new Set([hashOf("one")]));
    expect(test.requests.length).toBeLessThanOrEqual(1);
  });

  it("finds each of more than fit on a page, and counts their pages", { timeout: 60_000 }, async () => {
    const texts = Array.from({ length: 1_100 }, (_, index) => `content ${index}`);
    for (let at = 0; at < texts.length; at += 50) {
      await Promise.all(
        texts.slice(at, at + 50).map((text) => test.store.putInbound(REF, Buffer.from(text))),
      );
    }
    test.requests.length = 0;
    expect((await test.store.findInbound(REF, texts.map(hashOf))).size).toBe(texts.length);
    // Two pages of a thousand; a server may cut one short, and a request may be sent again.
    expect(test.requests.length).toBeLessThanOrEqual(4);
  });
});
