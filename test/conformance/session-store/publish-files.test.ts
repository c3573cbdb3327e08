import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { type Commit, type FileChange, SessionStore } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { meta, REF, type StoreKind, s3Options, storeKinds, TestStore } from "./support.ts";

const PREFIX = "acme/published/s1/";

describe.each(storeKinds)("published files on %s", (kind: StoreKind) => {
  let test: TestStore;
  let base: Commit | undefined;

  beforeEach(async () => {
    test = await TestStore.open(kind);
    base = undefined;
  });

  afterEach(async () => {
    await test[Symbol.asyncDispose]();
  });

  async function commit(set: Record<string, string | Buffer>, remove: string[] = []): Promise<Commit> {
    const changes: FileChange[] = Object.entries(set).map(([path, content]) => ({
      path: Buffer.from(path, "latin1"),
      content: Buffer.from(content),
    }));
    const result = await test.store.commitFiles(REF, base, { set: changes, remove }, meta());
    expect(result.outcome).toBe("committed");
    base = result.commit;
    return base;
  }

  async function published(): Promise<string[]> {
    const { objects } = await test.backend.list(PREFIX);
    return objects.map((object) => object.key.slice(PREFIX.length));
  }

  it("are those that patterns name, replaced when they change and deleted when they go", async () => {
    const large = randomBytes(3_500_000);
    const first = await commit({
      "workspace/site/index.html": "<h1>1</h1>",
      "workspace/site/large.bin": large,
      "workspace/site/empty.css": "",
      "workspace/notes.txt": "private",
      "home/x": "x",
    });
    const patterns = ["workspace/site/**", "**/x"];
    expect(await test.store.publishFiles(REF, undefined, first, patterns)).toEqual({
      put: 4,
      deleted: 0,
      leftOut: [],
    });
    expect(await published()).toEqual([
      "home/x",
      "workspace/site/empty.css",
      "workspace/site/index.html",
      "workspace/site/large.bin",
    ]);
    expect((await test.backend.get(`${PREFIX}workspace/site/large.bin`)).equals(large)).toBe(true);
    const second = await commit({ "workspace/site/index.html": "<h1>2</h1>", "workspace/notes.txt": "x" }, [
      "workspace/site/empty.css",
    ]);
    test.requests.length = 0;
    expect(await test.store.publishFiles(REF, first, second, patterns)).toEqual({
      put: 1,
      deleted: 1,
      leftOut: [],
    });
    expect(test.requests.filter((request) => request.operation !== "get").map((r) => r.operation)).toEqual([
      "put",
      "delete",
    ]);
    expect((await test.backend.get(`${PREFIX}workspace/site/index.html`)).toString()).toBe("<h1>2</h1>");
    expect(await published()).not.toContain("workspace/site/empty.css");
    // Nothing that a pattern names was changed: nothing is sent.
    const third = await commit({ "workspace/notes.txt": "y" });
    expect(await test.store.publishFiles(REF, second, third, patterns)).toMatchObject({ put: 0, deleted: 0 });
  });

  it("are made right again where it is not known what stands there, or the patterns changed", async () => {
    const first = await commit({ "a.txt": "a", "b.txt": "b", "c.log": "c" });
    await test.store.publishFiles(REF, undefined, first, ["*.txt", "*.log"]);
    await test.backend.replace(`${PREFIX}a.txt`, Buffer.from("half of an earlier try"));
    await test.backend.replace(`${PREFIX}foreign`, Buffer.from("from a lost generation"));
    expect(await test.store.publishFiles(REF, undefined, first, ["*.txt"])).toMatchObject({
      put: 2,
      deleted: 2,
    });
    expect(await published()).toEqual(["a.txt", "b.txt"]);
    expect((await test.backend.get(`${PREFIX}a.txt`)).toString()).toBe("a");
    expect(await test.store.publishFiles(REF, first, first, [])).toMatchObject({ put: 0, deleted: 0 });
    expect(await test.store.publishFiles(REF, undefined, first, [])).toMatchObject({ put: 0, deleted: 2 });
    expect(await published()).toEqual([]);
  });

  it("have keys that are their paths, and no two the same one", async () => {
    const names = {
      "plain name (1).txt": "plain name (1).txt",
      [Buffer.from("Über.txt").toString("latin1")]: "Über.txt",
      "100%.txt": "100%25.txt",
      ".hidden/.x": "%2Ehidden/%2Ex",
      "new\nline": "new%0Aline",
      "\xff.txt": "%FF%2Etxt",
      "%FF%2Etxt": "%25FF%252Etxt",
      "a+b&c=d?e#f": "a+b&c=d?e#f",
    };
    const all = await commit(Object.fromEntries(Object.keys(names).map((name) => [name, name])));
    await test.store.publishFiles(REF, undefined, all, ["**"]);
    expect((await published()).sort()).toEqual(Object.values(names).sort());
    for (const [path, key] of Object.entries(names))
      expect((await test.backend.get(PREFIX + key)).toString()).toBe(path);
  });

  it("leave out what no key can be made of", async () => {
    const deep = `${"d".repeat(200)}/`.repeat(5);
    const all = await commit({ [`${deep}f`]: "x", ["%".repeat(200)]: "x", f: "x" });
    expect(await test.store.publishFiles(REF, undefined, all, ["**"])).toEqual({
      put: 1,
      deleted: 0,
      leftOut: ["%".repeat(200), `${deep}f`],
    });
  });

  it("are no links and no directories", async () => {
    using copy = await test.store.hydrate(REF, undefined, test.directory());
    mkdirSync(join(copy.directory, "d"));
    writeFileSync(join(copy.directory, "f"), "x");
    symlinkSync("/etc/passwd", join(copy.directory, "l"));
    const { commit: made } = await copy.commit(await copy.mirror(), meta());
    expect(await test.store.publishFiles(REF, undefined, made, ["**"])).toMatchObject({ put: 1 });
    expect(await published()).toEqual(["f"]);
  });

  it("fail when their content is damaged, and say which object", async () => {
    const damaged = await commit({ f: randomBytes(3_000_000) });
    const [pack] = (await test.backend.list("acme/sessions/s1/pack/")).objects;
    const content = await test.backend.get(pack?.key ?? "");
    content[2_500_000] = (content[2_500_000] ?? 0) ^ 1;
    await test.backend.replace(pack?.key ?? "", content);
    await expect(test.store.publishFiles(REF, undefined, damaged, ["f"])).rejects.toMatchObject({
      code: "STORE_CORRUPT",
      key: pack?.key,
    });
    expect(await published()).toEqual([]);
  });

  it("of 300 small files read what they share once", async () => {
    const files = Object.fromEntries(
      Array.from({ length: 300 }, (_, at) => [`f${at}`, randomBytes(5000)] as const),
    );
    const all = await commit(files);
    test.requests.length = 0;
    await test.store.publishFiles(REF, undefined, all, ["f*"]);
    const gets = test.requests.filter((request) => request.operation === "get");
    expect(gets.reduce((sum, request) => sum + request.received, 0)).toBeLessThan(2_000_000);
  });

  it.runIf(kind === "s3")("bear their content type", async () => {
    const all = await commit({ "index.html": "<h1>", "x.json": "{}", "unknown.qqq": "?" });
    await test.store.publishFiles(REF, undefined, all, ["**"]);
    const { endpoint, credentials } = s3Options();
    const client = new S3Client({
      endpoint: endpoint as string,
      forcePathStyle: true,
      region: "us-east-1",
      credentials: credentials as { accessKeyId: string; secretAccessKey: string },
    });
    const prefix = test.url.slice("s3://store-tests/".length);
    for (const [name, type] of [
      ["index.html", "text/html"],
      ["x.json", "application/json"],
      ["unknown.qqq", "application/octet-stream"],
    ]) {
      const answer = await client.send(
        new GetObjectCommand({ Bucket: "store-tests", Key: `${prefix}/${PREFIX}${name}` }),
      );
      expect(answer.ContentType).toBe(type);
      await answer.Body?.transformToByteArray();
    }
    client.destroy();
  });

  it.runIf(kind === "file")("of a file store are files as they are", async () => {
    const all = await commit({ "site/index.html": "<h1>" });
    await new SessionStore({ backend: test.openBackend() }).publishFiles(REF, undefined, all, ["site/**"]);
    const path = join(test.scratch, "objects", PREFIX, "site/index.html");
    expect(readFileSync(path, "utf8")).toBe("<h1>");
  });
});
