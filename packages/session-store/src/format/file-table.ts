import { type BytePath, parentOfPath, textOfPath } from "./byte-path.ts";
import { MalformedBytesError } from "./byte-reader.ts";
import { sameEntry, type TableDelta, type TableEntry } from "./table-entry.ts";

/** What a session directory holds in one generation: an entry per path, directories included, the root not. */
export class FileTable {
  readonly #entries: Map<BytePath, TableEntry>;

  constructor(entries: Iterable<TableEntry> = []) {
    this.#entries = new Map();
    for (const entry of entries) this.#entries.set(entry.path, entry);
  }

  get size(): number {
    return this.#entries.size;
  }

  get(path: BytePath): TableEntry | undefined {
    return this.#entries.get(path);
  }

  has(path: BytePath): boolean {
    return this.#entries.has(path);
  }

  /** In no order. */
  entries(): MapIterator<TableEntry> {
    return this.#entries.values();
  }

  paths(): MapIterator<BytePath> {
    return this.#entries.keys();
  }

  /** Content of all files, in bytes. */
  get totalBytes(): number {
    let total = 0;
    for (const entry of this.#entries.values()) if (entry.type === "file") total += entry.size;
    return total;
  }

  copy(): FileTable {
    return new FileTable(this.#entries.values());
  }

  /** Changes this table by a delta. */
  apply(delta: TableDelta): void {
    for (const path of delta.removed) this.#entries.delete(path);
    for (const entry of delta.set) this.#entries.set(entry.path, entry);
  }

  /** What has to be set and removed to make this table into another one. */
  differenceTo(other: FileTable): TableDelta {
    const set: TableEntry[] = [];
    const removed: BytePath[] = [];
    for (const entry of other.#entries.values()) {
      const own = this.#entries.get(entry.path);
      if (own === undefined || (own !== entry && !sameEntry(own, entry))) set.push(entry);
    }
    for (const path of this.#entries.keys()) if (!other.#entries.has(path)) removed.push(path);
    return { set, removed };
  }

  /**
   * Checks what only a whole table shows: that each path lies in a directory of the table.
   *
   * @throws MalformedBytesError
   */
  check(): void {
    for (const path of this.#entries.keys()) {
      const parent = parentOfPath(path);
      if (parent === "") continue;
      const type = this.#entries.get(parent)?.type;
      if (type !== "directory") {
        const what = type === undefined ? "nothing" : `a ${type}`;
        throw new MalformedBytesError(`${JSON.stringify(textOfPath(path))} lies below ${what}`);
      }
    }
  }
}
