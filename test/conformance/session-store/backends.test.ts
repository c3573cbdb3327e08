import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type StoreKind, storeKinds, TestStore } from "./support.ts";

describe.each(storeKinds)("backend %s", (kind: StoreKind) => {
  let test: TestStore;
  const code = (expected: string) => expect.objectContaining({ code: expected });

  beforeEach(async () => {
    test = await TestStore.open(kind);
  });

  afterEach(async () => {
    await test[Symbol.asyncDispose]();
  });

  it("keeps what was put, whole and in parts", async () => {
    const body = Buffer.from("0123456789");
    expect((await test.backend.putIfAbsent("a/b", body)).outcome).toBe("created");
    expect(await test.backend.get("a/b")).toEqual(body);
    expect((await test.backend.get("a/b", { range: { start: 2, end: 5 } })).toString()).toBe("234");
    expect((await test.backend.get("a/b", { range: { start: 5, end: 5 } })).length).toBe(0);
    expect(await test.backend.head("a/b")).toMatchObject({ sizeBytes: 10 });
    expect(test.requests.map((request) => request.operation)).toContain("put");
  });

  it("keeps an empty object and one of 20 MiB", async () => {
    expect((await test.backend.putIfAbsent("empty", Buffer.alloc(0))).outcome).toBe("created");
    expect(await test.backend.get("empty")).toEqual(Buffer.alloc(0));
    const large = Buffer.alloc(20 * 1024 * 1024, "longshore");
    expect((await test.backend.putIfAbsent("large", large)).outcome).toBe("created");
    expect((await test.backend.get("large")).equals(large)).toBe(true);
  });

  it("puts from a source with a length", async () => {
    const parts = [Buffer.from("one "), Buffer.from("two "), Buffer.from("three")];
    const source = {
      sizeBytes: 13,
      async *open() {
        yield* parts;
      },
    };
    expect((await test.backend.putIfAbsent("streamed", source, { contentType: "text/plain" })).outcome).toBe(
      "created",
    );
    expect((await test.backend.get("streamed")).toString()).toBe("one two three");
  });

  it("never overwrites", async () => {
    expect((await test.backend.putIfAbsent("k", Buffer.from("first"))).outcome).toBe("created");
    expect((await test.backend.putIfAbsent("k", Buffer.from("second"))).outcome).toBe("exists");
    expect((await test.backend.get("k")).toString()).toBe("first");
  });

  it("lets exactly one of 50 writers win", async () => {
    const backends = Array.from({ length: 5 }, () => test.openBackend());
    const outcomes = await Promise.all(
      Array.from({ length: 50 }, async (_, writer) => {
        const backend = backends[writer % backends.length] ?? test.backend;
        const answer = await backend.putIfAbsent("race", Buffer.from(`writer ${writer}`));
        return { writer, outcome: answer.outcome };
      }),
    );
    const winners = outcomes.filter(({ outcome }) => outcome === "created");
    expect(winners).toHaveLength(1);
    expect((await test.backend.get("race")).toString()).toBe(`writer ${winners[0]?.writer}`);
    for (const backend of backends) backend.close();
  });

  it("lists in the order of the bytes, from a key on, in pages and in groups", async () => {
    const keys = ["l/a", "l/a-b/x", "l/a.b", "l/a/x", "l/a0", "l/b/c/d", "l/b/e", "lx", "z"].sort();
    // On a file system "l/a" can't be a file and a directory at once; nor does the store ever ask for that.
    const made = keys.filter((key) => key !== "l/a");
    for (const key of made) await test.backend.putIfAbsent(key, Buffer.from(key));
    const below = made.filter((key) => key.startsWith("l/"));
    const all = await test.backend.list("l/");
    expect(all.objects.map((object) => object.key)).toEqual(below);
    expect(all.more).toBe(false);
    expect(Math.abs(all.storeTimeMs - Date.now())).toBeLessThan(60_000);
    const page = await test.backend.list("l/", { limit: 2 });
    expect(page.objects.map((object) => object.key)).toEqual(below.slice(0, 2));
    expect(page.more).toBe(true);
    const rest = await test.backend.list("l/", { startAfter: below[1] ?? "" });
    expect(rest.objects.map((object) => object.key)).toEqual(below.slice(2));
    const grouped = await test.backend.list("l/", { grouped: true });
    expect(grouped.groups).toEqual(["l/a-b/", "l/a/", "l/b/"]);
    expect(grouped.objects.map((object) => object.key)).toEqual(["l/a.b", "l/a0"]);
    expect((await test.backend.list("l/", { grouped: true, startAfter: "l/a/0" })).groups).toEqual(["l/b/"]);
    expect((await test.backend.list("none/")).objects).toEqual([]);
  });

  it("deletes, also what is not there", async () => {
    await test.backend.putIfAbsent("d/1", Buffer.from("1"));
    await test.backend.putIfAbsent("d/2", Buffer.from("2"));
    await test.backend.delete(["d/1", "d/none"]);
    expect((await test.backend.list("d/")).objects.map((object) => object.key)).toEqual(["d/2"]);
    expect((await test.backend.putIfAbsent("d/1", Buffer.from("again"))).outcome).toBe("created");
  });

  it("tells absence from failure", async () => {
    await expect(test.backend.get("none")).rejects.toEqual(code("OBJECT_NOT_FOUND"));
    expect(await test.backend.head("none")).toBeUndefined();
    await test.backend.putIfAbsent("short", Buffer.from("abc"));
    await expect(test.backend.get("short", { range: { start: 1, end: 9 } })).rejects.toEqual(
      code("STORE_CORRUPT"),
    );
  });

  it("stops when it is told to", async () => {
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(test.backend.get("k", { signal })).rejects.toThrow("enough");
    await expect(test.backend.putIfAbsent("k", Buffer.from("x"), { signal })).rejects.toThrow("enough");
    await expect(test.backend.list("", { signal })).rejects.toThrow("enough");
  });

  it("passes the probe, and leaves nothing of it", async () => {
    await test.store.probe();
    expect((await test.backend.list("probe/")).objects).toEqual([]);
  });
});

describe("backend s3", () => {
  it("makes links that work for whoever has them, with the name and type asked for", async () => {
    await using test = await TestStore.open("s3");
    const name = 'Grüße "1".txt';
    const ref = { tenant: "acme", sessionId: "s1" };
    await test.store.putArtifact(ref, "a1", name, Buffer.from("hello"), { contentType: "text/plain" });
    const link = await test.store.presignArtifact(ref, "a1", name, {
      expiresSeconds: 60,
      contentType: "text/plain",
    });
    const answer = await fetch(link ?? "");
    expect(answer.status).toBe(200);
    expect(await answer.text()).toBe("hello");
    expect(answer.headers.get("content-type")).toBe("text/plain");
    expect(answer.headers.get("content-disposition")).toContain(encodeURIComponent("Grüße"));
    const forged = await fetch((link ?? "").replace(/Signature=.{4}/, "Signature=0000"));
    expect(forged.status).toBe(403);
  });

  it("tells wrong credentials and a missing bucket", async () => {
    await using wrong = await TestStore.open("s3", {
      credentials: { accessKeyId: "nobody", secretAccessKey: "nothing" },
    });
    await expect(wrong.store.probe()).rejects.toMatchObject({ code: "STORE_ACCESS_DENIED" });
    await using test = await TestStore.open("s3");
    const { openBackend } = await import("@longshore/session-store");
    const { s3Options } = await import("./support.ts");
    const missing = openBackend("s3://no-such-bucket-here/x", s3Options());
    await expect(missing.list("")).rejects.toMatchObject({ code: "STORE_REQUEST_REFUSED" });
    missing.close();
    expect(test.kind).toBe("s3");
  });
});
