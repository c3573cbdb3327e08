import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { UploadSpool } from "./upload-spool.ts";

const code = (expected: string) => expect.objectContaining({ code: expected });

describe("the spool of uploads", () => {
  let directory: string;
  let spool: UploadSpool;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "upload-spool-"));
    spool = new UploadSpool({ directory: join(directory, "run/uploads"), budgetBytes: 1_000_000 });
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const receive = (bytes: number, limitBytes = 1_000_000, announcedBytes?: number) =>
    spool.receive(Readable.from(pieces(bytes), { objectMode: false }), { limitBytes, announcedBytes });

  function* pieces(bytes: number): Generator<Buffer> {
    for (let at = 0; at < bytes; at += 60_000) yield Buffer.alloc(Math.min(60_000, bytes - at), `${at}`);
  }

  it("gives content that can be read again, and its hash; no name of it is left", async () => {
    await using upload = await receive(700_000);
    expect(readdirSync(join(directory, "run/uploads"))).toEqual([]);
    const content = Buffer.concat([...pieces(700_000)]);
    expect(upload.sha256).toBe(createHash("sha256").update(content).digest("hex"));
    expect(upload.content.sizeBytes).toBe(700_000);
    for (let time = 0; time < 2; time++)
      expect((await buffer(upload.content.open())).equals(content)).toBe(true);
  });

  it("takes nothing, too", async () => {
    await using upload = await receive(0);
    expect((await buffer(upload.content.open())).length).toBe(0);
  });

  it("refuses what is too large, announced or not", async () => {
    await expect(receive(101, 100)).rejects.toThrow(code("BODY_TOO_LARGE"));
    await expect(receive(1, 100, 101)).rejects.toThrow(code("BODY_TOO_LARGE"));
    await expect(receive(1_000_001, 2_000_000)).rejects.toThrow(code("BODY_TOO_LARGE"));
    await using exact = await receive(100, 100, 100);
    expect(exact.content.sizeBytes).toBe(100);
  });

  it("has room for others only once an upload is disposed of, or refused", async () => {
    const first = await receive(600_000);
    await expect(receive(500_000)).rejects.toThrow(code("BUSY"));
    await expect(receive(0, 1_000_000, 500_000)).rejects.toThrow(code("BUSY"));
    await first[Symbol.asyncDispose]();
    await using second = await receive(1_000_000);
    expect(second.content.sizeBytes).toBe(1_000_000);
  });

  it("says that a body broke off", async () => {
    const body = new Readable({
      read() {
        this.push("x");
        this.destroy(new Error("gone"));
      },
    });
    await expect(spool.receive(body, { limitBytes: 10, announcedBytes: undefined })).rejects.toThrow(
      code("UPLOAD_CUT"),
    );
  });
});
