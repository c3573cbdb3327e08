import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import dns from "node:dns";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBackend } from "@longshore/session-store";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  collect,
  fingerprint,
  meta,
  REF,
  s3Options,
  TestStore,
} from "../conformance/session-store/support.ts";
import { FaultProxy, type SeenRequest } from "./fault-proxy.ts";
import type { SigningKey } from "./sign-request.ts";

// What the store's requests look like on the wire, and servers, credentials and clocks that are not the usual ones.

const QUICK = { retry: { attempts: 2, firstMs: 1, longestMs: 1 } };

function signingKey(): SigningKey {
  const { credentials } = s3Options();
  if (credentials === undefined || typeof credentials === "function")
    throw new Error("no static credentials");
  const { accessKeyId, secretAccessKey } = credentials;
  return { accessKeyId, secretAccessKey, region: "us-east-1" };
}

/** A turn over a store: everything that one can ask of it. */
async function takeTurn(test: TestStore): Promise<void> {
  const here = test.directory();
  using copy = await test.store.hydrate(REF, await test.store.readNewest(REF), here);
  writeFileSync(join(here, "small"), randomBytes(10));
  writeFileSync(join(here, "large"), randomBytes(100_000));
  expect(await copy.commit(await copy.mirror(), meta())).toMatchObject({ outcome: "committed" });
  const there = test.directory();
  using _ = await test.store.hydrate(REF, await test.store.readNewest(REF), there);
  expect(fingerprint(there)).toEqual(fingerprint(here));
}

describe("on the wire", () => {
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await FaultProxy.start(s3Options().endpoint ?? "", { signingKey: signingKey() });
  });

  afterEach(async () => {
    vi.restoreAllMocks();
    vi.useRealTimers();
    await proxy[Symbol.asyncDispose]();
  });

  it("bodies have a length, and no chunks, checksums or trailers that some servers refuse", async () => {
    await using test = await TestStore.open("s3", { endpoint: proxy.url });
    await takeTurn(test);
    const parts = [Buffer.alloc(70_000, "streamed"), Buffer.from("end")];
    const content = {
      sizeBytes: 70_003,
      async *open() {
        yield* parts;
      },
    };
    await test.store.putArtifact(REF, "a1", "streamed", content);
    await test.backend.delete(["none"]);
    const withBodies = proxy.seen.filter(({ method }) => method === "PUT" || method === "POST");
    expect(withBodies.length).toBeGreaterThan(3);
    for (const { headers, trailers, bodyBytes } of withBodies) {
      expect(headers["content-length"]).toBe(String(bodyBytes));
      for (const name of [
        "transfer-encoding",
        "content-encoding",
        "x-amz-trailer",
        "x-amz-decoded-content-length",
      ])
        expect(headers).not.toHaveProperty(name);
      expect(trailers).toEqual({});
      expect(headers["x-amz-content-sha256"]).toMatch(/^([0-9a-f]{64}|UNSIGNED-PAYLOAD)$/);
    }
    for (const { headers } of proxy.seen.filter(({ method }) => method === "PUT")) {
      expect(headers["if-none-match"]).toBe("*");
      expect(Object.keys(headers).filter((name) => name.startsWith("x-amz-checksum"))).toEqual([]);
    }
    const opened = await test.store.openArtifact(REF, "a1", "streamed");
    expect((await collect(opened.stream())).equals(Buffer.concat(parts))).toBe(true);
  });

  it("path style: the bucket is part of the path", async () => {
    await using test = await TestStore.open("s3", { endpoint: proxy.url, forcePathStyle: true });
    await takeTurn(test);
    for (const { target, headers } of proxy.seen) {
      expect(target).toMatch(/^\/store-tests[/?]/);
      expect(headers.host).toBe(`127.0.0.1:${proxy.port}`);
    }
  });

  it("virtual hosts: the bucket is part of the host", async () => {
    // The only thing that is not real here: no resolver of the machine knows the bucket's host.
    const lookup = dns.lookup;
    vi.spyOn(dns, "lookup").mockImplementation(((_name: string, ...rest: [never, never]) =>
      lookup("127.0.0.1", ...rest)) as typeof dns.lookup);
    proxy.rewrite = ({ target, headers }) => ({
      target: `/store-tests${target}`,
      headers: plain(headers),
    });
    await using test = await TestStore.open("s3", {
      endpoint: `http://s3.example.test:${proxy.port}`,
      forcePathStyle: false,
    });
    await takeTurn(test);
    expect(proxy.requests).toBeGreaterThan(3);
    for (const { target, headers } of proxy.seen) {
      expect(target).not.toMatch(/^\/store-tests/);
      expect(headers.host).toBe(`store-tests.s3.example.test:${proxy.port}`);
    }
  });

  it("server-side encryption is asked for with every object, and nothing else", async () => {
    proxy.rewrite = ({ target, headers }) => {
      // The server of the tests has no keys.
      const {
        "x-amz-server-side-encryption": _,
        "x-amz-server-side-encryption-aws-kms-key-id": __,
        ...rest
      } = plain(headers);
      return { target, headers: rest };
    };
    const encryptionOf = ({ headers }: SeenRequest) => [
      headers["x-amz-server-side-encryption"],
      headers["x-amz-server-side-encryption-aws-kms-key-id"],
    ];
    for (const [options, expected] of [
      [{ algorithm: "AES256" }, ["AES256", undefined]],
      [{ algorithm: "aws:kms", keyId: "key-1" }, ["aws:kms", "key-1"]],
    ] as const) {
      await using test = await TestStore.open("s3", { endpoint: proxy.url, serverSideEncryption: options });
      proxy.seen.length = 0;
      await takeTurn(test);
      const puts = proxy.seen.filter(({ method }) => method === "PUT");
      expect(puts.length).toBeGreaterThan(1);
      for (const put of puts) expect(encryptionOf(put)).toEqual(expected);
      const others = proxy.seen.filter(({ method }) => method !== "PUT");
      for (const other of others) expect(encryptionOf(other)).toEqual([undefined, undefined]);
    }
  });

  it("a list that is cut at few keys is read to its end", async () => {
    await using test = await TestStore.open("s3", { endpoint: proxy.url });
    const here = test.directory();
    using copy = await test.store.hydrate(REF, undefined, here);
    for (let epoch = 1; epoch <= 7; epoch++) await copy.commit("unchanged", meta({ epoch }));
    for (const sessionId of ["s2", "s3", "s4"])
      await test.store.commitUnchanged({ tenant: "acme", sessionId }, undefined, meta());
    let cut = 0;
    proxy.rewrite = ({ target, headers }) => {
      const url = new URL(target, proxy.url);
      if (Number(url.searchParams.get("max-keys") ?? 0) <= 2) return undefined;
      cut++;
      url.searchParams.set("max-keys", "2");
      return { target: `${url.pathname}${url.search}`, headers: plain(headers) };
    };
    const generations = (await test.store.listCommits(REF)).map((commit) => commit.generation);
    expect(generations).toEqual([7, 6, 5, 4, 3, 2, 1]);
    const some = await test.store.listCommits(REF, { limit: 3, before: 7 });
    expect(some.map((commit) => commit.generation)).toEqual([6, 5, 4]);
    expect((await test.store.listSessions("acme")).sort()).toEqual(["s1", "s2", "s3", "s4"]);
    expect(cut).toBeGreaterThan(6);
    expect((await test.backend.list("acme/", { limit: 3 })).more).toBe(true);
  });

  it("an empty page of a list that goes on does not make a session new", async () => {
    await using test = await TestStore.open("s3", { endpoint: proxy.url });
    await takeTurn(test);
    let empty = 0;
    proxy.answer = ({ target, method }) => {
      if (method !== "GET" || !target.includes("list-type=2") || target.includes("continuation-token"))
        return undefined;
      empty++;
      const result =
        "<KeyCount>0</KeyCount><IsTruncated>true</IsTruncated><NextContinuationToken>on</NextContinuationToken>";
      return { status: 200, body: `<?xml version="1.0"?><ListBucketResult>${result}</ListBucketResult>` };
    };
    proxy.rewrite = ({ target, headers }) => {
      const url = new URL(target, proxy.url);
      if (!url.searchParams.has("continuation-token")) return undefined;
      url.searchParams.delete("continuation-token");
      return { target: `${url.pathname}${url.search}`, headers: plain(headers) };
    };
    expect(await test.store.readNewest(REF)).toMatchObject({ generation: 1 });
    expect(empty).toBe(1);
    // And one that never comes to an end is refused.
    proxy.answer = ({ target }) =>
      target.includes("list-type=2")
        ? {
            status: 200,
            body: "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>on</NextContinuationToken></ListBucketResult>",
          }
        : undefined;
    await expect(test.store.readNewest(REF)).rejects.toMatchObject({ code: "STORE_REQUEST_REFUSED" });
  });

  it.each([-5, 5])("a clock %d hours off is corrected by the server's", async (hours) => {
    await using test = await TestStore.open("s3", { endpoint: proxy.url });
    await takeTurn(test);
    const real = Date.now();
    vi.useFakeTimers({ toFake: ["Date"] });
    vi.setSystemTime(real + hours * 3_600_000);
    await using off = await TestStore.open("s3", { endpoint: proxy.url, ...QUICK });
    await takeTurn(off);
    // The store's time is the server's, whatever the host's clock says.
    const { storeTimeMs } = await off.backend.list("");
    expect(Math.abs(storeTimeMs - real)).toBeLessThan(600_000);
  });

  it("the store's time is what the server says, even where that is wrong", async () => {
    await using test = await TestStore.open("s3", { endpoint: proxy.url });
    proxy.clockOffHours = 30;
    // What is signed by that clock has to be signed by the real one for the real server.
    proxy.rewrite = ({ target, headers }) => ({ target, headers: plain(headers) });
    const later = Date.now() + 30 * 3_600_000;
    expect(Math.abs((await test.backend.list("")).storeTimeMs - later)).toBeLessThan(600_000);
    const put = await test.backend.putIfAbsent("k", Buffer.from("v"));
    expect(Math.abs(put.storeTimeMs - later)).toBeLessThan(600_000);
    await takeTurn(test);
  });

  it.each([
    ["that never said when they expire", undefined],
    ["before the time that they said", 3_600_000],
  ])("credentials %s are asked for again when they have expired", async (_name, lifeMs) => {
    const key = signingKey();
    let valid = "token-1";
    let asked = 0;
    proxy.rule = (_method, _path, { headers }) =>
      headers["x-amz-security-token"] === valid ? undefined : "expired";
    proxy.rewrite = ({ target, headers }) => {
      // The server of the tests knows no tokens.
      const { "x-amz-security-token": _, ...rest } = plain(headers);
      return { target, headers: rest };
    };
    await using test = await TestStore.open("s3", {
      endpoint: proxy.url,
      credentials: async () => {
        asked++;
        const expires = lifeMs === undefined ? {} : { expiration: new Date(Date.now() + lifeMs) };
        return { ...key, sessionToken: valid, ...expires };
      },
    });
    await takeTurn(test);
    valid = "token-2";
    await takeTurn(test);
    expect(proxy.faults).toBeGreaterThan(0);
    expect(asked).toBeLessThan(6);
    expect((await test.store.readNewest(REF))?.generation).toBe(2);
    // None to be had: said so, and no secret with it.
    valid = "token-nobody-has";
    const failing = openBackend(test.url, {
      ...s3Options(),
      endpoint: proxy.url,
      credentials: { ...key, sessionToken: "token-secret" },
      ...QUICK,
    });
    const error = await failing.list("").catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: "STORE_UNAVAILABLE",
      message: expect.stringContaining("ExpiredToken"),
    });
    expect(JSON.stringify(error) + String((error as Error).stack)).not.toMatch(
      new RegExp(`${key.secretAccessKey}|token-secret`),
    );
    failing.close();
  });
});

describe("a server with a certificate of one's own", () => {
  it("is trusted by its authority, and by nothing less", async () => {
    await using files = await TestStore.open("file");
    const directory = files.directory();
    const file = (name: string) => join(directory, name);
    const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: directory, stdio: "ignore" });
    for (const name of ["ca", "other", "server"]) {
      openssl(
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        `${name}.key`,
        "-out",
        `${name}.pem`,
        "-subj",
        `/CN=${name}`,
        ...(name === "server"
          ? [
              "-CA",
              "ca.pem",
              "-CAkey",
              "ca.key",
              "-addext",
              "subjectAltName=IP:127.0.0.1",
              "-addext",
              "basicConstraints=critical,CA:FALSE",
            ]
          : []),
      );
    }
    const read = (name: string) => readFileSync(file(name), "utf8");
    await using proxy = await FaultProxy.start(s3Options().endpoint ?? "", {
      tls: { key: read("server.key"), cert: read("server.pem") },
    });
    await using test = await TestStore.open("s3", {
      endpoint: proxy.url,
      certificateAuthority: read("ca.pem"),
    });
    await test.store.probe();
    await takeTurn(test);
    // A large range takes a connection of another kind.
    const content = randomBytes(200_000);
    await test.backend.putIfAbsent("large", content);
    const range = { start: 50_000, end: 150_000 };
    const into = Buffer.alloc(100_000);
    await test.backend.get("large", { range, into });
    expect(into.equals(content.subarray(range.start, range.end))).toBe(true);
    const requests = proxy.requests;
    for (const authority of [undefined, read("other.pem")]) {
      await using wary = await TestStore.open("s3", {
        endpoint: proxy.url,
        ...(authority === undefined ? {} : { certificateAuthority: authority }),
        ...QUICK,
      });
      const refused = { code: "STORE_UNAVAILABLE", message: expect.stringMatching(/certificate/) };
      await expect(wary.store.readNewest(REF)).rejects.toMatchObject(refused);
      await expect(wary.backend.get("large", { range, into })).rejects.toMatchObject(refused);
    }
    expect(proxy.requests).toBe(requests);
  });
});

/** Headers as a request can be sent with them again. */
function plain(headers: SeenRequest["headers"]): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}
