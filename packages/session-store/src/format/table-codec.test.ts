import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteReader } from "./byte-reader.ts";
import { ByteWriter } from "./byte-writer.ts";
import { FileTable } from "./file-table.ts";
import { decodeDelta, encodeDelta } from "./table-codec.ts";
import { type Frame, sameEntry, type TableDelta, type TableEntry } from "./table-entry.ts";

const frames: readonly Frame[] = [
  { source: { kind: "pack", id: "ab".repeat(32) }, offset: 0, length: 100, plainLength: 1000 },
  { source: { kind: "pack", id: "ab".repeat(32) }, offset: 100, length: 90, plainLength: 800 },
  { source: { kind: "pack", session: "s-1", id: "ab".repeat(32) }, offset: 190, length: 9, plainLength: 800 },
  { source: { kind: "log", session: "s-1", generation: 3 }, offset: 7, length: 50, plainLength: 500 },
  { source: { kind: "log", generation: 2 ** 40 }, offset: 7, length: 50, plainLength: 500 },
];

const name = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .map((bytes) =>
    Buffer.from(bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0x61 : byte))).toString("latin1"),
  )
  .filter((text) => text !== "." && text !== "..");

const base = fc.record({
  path: fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join("/")),
  mode: fc.integer({ min: 0, max: 0o777 }),
  mtimeSeconds: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
  mtimeNanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
});

const chunk = fc.record({
  frame: fc.constantFrom(...frames),
  hash: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
  offset: fc.integer({ min: 0, max: 200 }),
  length: fc.integer({ min: 1, max: 300 }),
});

const entry: fc.Arbitrary<TableEntry> = fc.oneof(
  base.map((fields) => ({ ...fields, type: "directory" as const })),
  fc.tuple(base, name).map(([fields, target]) => ({ ...fields, type: "link" as const, target })),
  fc.tuple(base, fc.array(chunk, { maxLength: 3 })).map(([fields, chunks]) => ({
    ...fields,
    type: "file" as const,
    chunks,
    size: chunks.reduce((sum, { length }) => sum + length, 0),
  })),
);

const delta: fc.Arbitrary<TableDelta> = fc.record({
  set: fc.uniqueArray(entry, { selector: ({ path }) => path, maxLength: 20 }),
  removed: fc.uniqueArray(
    base.map(({ path }) => path),
    { maxLength: 5 },
  ),
});

function encoded(value: TableDelta): Buffer {
  const writer = new ByteWriter(16);
  encodeDelta(writer, value);
  return Buffer.from(writer.finish());
}

describe("the codec of tables", () => {
  it("gives back what was written", () => {
    fc.assert(
      fc.property(delta, (value) => {
        const reader = new ByteReader(encoded(value));
        const read = decodeDelta(reader);
        reader.end();
        const sorted = [...value.set].sort((a, b) => (a.path < b.path ? -1 : 1));
        expect(read).toEqual({ set: sorted, removed: value.removed });
      }),
    );
  });

  it("never takes damaged bytes for anything but a valid delta or an error", () => {
    fc.assert(
      fc.property(delta, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, where, flip) => {
        const bytes = encoded(value);
        const at = where % bytes.length;
        bytes[at] = (bytes[at] ?? 0) ^ flip;
        let read: TableDelta;
        try {
          read = decodeDelta(new ByteReader(bytes));
        } catch (error) {
          expect((error as Error).constructor.name).toBe("MalformedBytesError");
          return;
        }
        for (const { path } of read.set) {
          expect(path.split("/").every((part) => part !== "" && part !== "." && part !== "..")).toBe(true);
        }
      }),
    );
  });

  it("makes one table of another by their difference", () => {
    fc.assert(
      fc.property(delta, delta, (one, two) => {
        const from = new FileTable(one.set);
        const to = new FileTable(two.set);
        from.apply(from.differenceTo(to));
        expect(from.size).toBe(to.size);
        for (const wanted of to.entries()) {
          const made = from.get(wanted.path);
          expect(made !== undefined && sameEntry(made, wanted)).toBe(true);
        }
      }),
    );
  });
});
