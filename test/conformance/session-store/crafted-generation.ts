import { createHash } from "node:crypto";
import { zstdCompressSync } from "node:zlib";

// Whoever can write to the object store crafts generations by hand; this writer shares no code with the store's own.

/** Where the record of a generation of the tests' session is. */
export function recordKey(generation: number): string {
  return `acme/sessions/s1/log/${String(LOG_MAX - generation).padStart(15, "0")}`;
}

const LOG_MAX = 999_999_999_999_999;

/** Appends integers as the format has them, and raw bytes. */
export class Bytes {
  readonly #parts: Buffer[] = [];

  integer(value: number): this {
    const bytes: number[] = [];
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
    this.#parts.push(Buffer.from([...bytes, rest]));
    return this;
  }

  raw(value: Uint8Array | string): this {
    this.#parts.push(typeof value === "string" ? Buffer.from(value, "latin1") : Buffer.from(value));
    return this;
  }

  done(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export interface CraftedFrame {
  readonly offset: number;
  readonly length: number;
  readonly plainLength: number;
}

export interface CraftedEntry {
  readonly path: string;
  readonly type?: number;
  readonly mode?: number;
  readonly target?: string;
  readonly size?: number;
  readonly chunks?: readonly { frame: number; offset: number; length: number; hash: Buffer }[];
}

/** The only source of most: the inline part of the record of generation 1. */
export const OWN_RECORD = new Bytes().integer(1).integer(1).done();

/** The content of a pack. */
export function packSource(id: string): Buffer {
  return new Bytes().integer(0).raw(Buffer.from(id, "hex")).done();
}

/** A record of another session. */
export function foreignRecord(session: string, generation: number): Buffer {
  return new Bytes().integer(3).integer(session.length).raw(session).integer(generation).done();
}

/** A delta whose frames are all in one source. Paths are written in the order given, without sharing. */
export function delta(
  frames: readonly CraftedFrame[],
  entries: readonly CraftedEntry[],
  source: Buffer = OWN_RECORD,
  removed: readonly string[] = [],
): Buffer {
  const bytes = new Bytes().integer(1).raw(source).integer(frames.length);
  for (const frame of frames)
    bytes.integer(0).integer(frame.offset).integer(frame.length).integer(frame.plainLength);
  bytes.integer(entries.length);
  for (const { path, type = 0, mode = 0o644, target = "", chunks = [], size } of entries) {
    bytes.integer(0).integer(path.length).raw(path).integer(type).integer(mode).integer(2000).integer(0);
    if (type === 2) bytes.integer(target.length).raw(target);
    if (type !== 0) continue;
    bytes.integer(size ?? chunks.reduce((sum, chunk) => sum + chunk.length, 0)).integer(chunks.length);
    for (const chunk of chunks)
      bytes.integer(chunk.frame).integer(chunk.offset).integer(chunk.length).raw(chunk.hash);
  }
  bytes.integer(removed.length);
  for (const path of removed) bytes.integer(path.length).raw(path);
  return bytes.done();
}

/** A table object of the first version, and the name that a chain has for it. */
export function table(
  generation: number,
  deltaBytes: Buffer,
): { readonly name: string; readonly content: Buffer } {
  const content = Buffer.concat([Buffer.from("LSTB\x01", "latin1"), zstdCompressSync(deltaBytes)]);
  return { name: `${generation}-${sha256(content).toString("hex")}`, content };
}

/** A commit record. @param head what is to be other than usual in it */
export function record(deltaBytes: Buffer, inline: Buffer, head: object = {}, version = 1): Buffer {
  const json = Buffer.from(
    JSON.stringify({
      generation: 1,
      parent: 0,
      epoch: 1,
      nonce: "n",
      id: `crafted ${JSON.stringify(head)}`,
      worker: "w",
      time: new Date(0).toISOString(),
      kind: "turn",
      partial: false,
      note: {},
      entries: 1,
      totalBytes: 1,
      chain: { deltas: [1] },
      ...head,
    }),
  );
  const packed = zstdCompressSync(
    new Bytes().integer(json.length).raw(json).integer(1).raw(deltaBytes).done(),
  );
  const prefix = Buffer.from([0x4c, 0x53, 0x43, 0x52, version, 0, 0, 0, 0]);
  prefix.writeUInt32LE(packed.length, 5);
  const body = Buffer.concat([prefix, packed, inline]);
  return Buffer.concat([body, createHash("sha256").update(body).digest()]);
}

export const sha256 = (content: string | Buffer): Buffer => createHash("sha256").update(content).digest();
export const CONTENT = "owned";
export const FRAME = zstdCompressSync(Buffer.from(CONTENT));
export const GOOD_FRAME = { offset: 0, length: FRAME.length, plainLength: CONTENT.length };
export const CHUNKS = [{ frame: 0, offset: 0, length: CONTENT.length, hash: sha256(CONTENT) }];
export const file = (path: string): CraftedEntry => ({ path, chunks: CHUNKS });
export const directory = (path: string): CraftedEntry => ({ path, type: 1, mode: 0o755 });
export const link = (path: string, target: string): CraftedEntry => ({ path, type: 2, mode: 0o777, target });
