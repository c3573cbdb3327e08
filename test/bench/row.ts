/** What has to be reached: by our own figure, or by its ratio to the peer's. */
export interface Target {
  readonly of: "ours" | "ratio";
  /** The largest figure that reaches it; for what gets better as it gets smaller. */
  readonly atMost?: number;
  /** The smallest figure that reaches it; for what gets better as it gets larger. */
  readonly atLeast?: number;
}

/** One piece of work, measured on ours and on the peer in the same run. */
export interface Measurement {
  /** What was done, short enough for a table. */
  readonly work: string;
  /** Of both figures. */
  readonly unit:
    | "ms"
    | "s"
    | "KiB"
    | "MiB"
    | "MB"
    | "MiB/s"
    | "requests"
    | "messages/s"
    | "turns/s"
    | "sessions"
    | "%";
  /** Null when it could not be measured. */
  readonly ours: number | null;
  /** Null when it could not be measured, or where there is no peer. */
  readonly peer: number | null;
  /** The peer's full command, as one can type it. */
  readonly peerCommand?: string;
  /** The figures of all peers by name, where the row's is the best of several. */
  readonly peers?: Readonly<Record<string, number>>;
  readonly target?: Target;
  /** Why a figure is missing. */
  readonly failure?: string;
}

/** A measurement and what it means; the first six are the interface of `npm run bench -- NAME --json`. */
export interface Row {
  readonly work: string;
  readonly ours: number | null;
  readonly peer: number | null;
  /** Ours through the peer's, null where one is missing. */
  readonly ratio: number | null;
  /** For instance `ratio <= 2`, null where nothing has to be reached. */
  readonly target: string | null;
  /** Null where there is no target; a figure that is missing never reaches one. */
  readonly reached: boolean | null;
  readonly unit: Measurement["unit"];
  readonly peerCommand: string | null;
  readonly peers: Readonly<Record<string, number>> | null;
  readonly failure: string | null;
}

/**
 * A module `test/bench/NAME.ts` exports one as `benchmark`. It ends what it starts, also when its
 * consumer stops early.
 *
 * @param wants whether a part of it (`benchmarkParts`) is to be measured
 */
export type Benchmark = (wants: (part: string) => boolean) => AsyncIterable<Measurement>;

export function rowOf(measurement: Measurement): Row {
  const { work, unit, ours, peer, target } = measurement;
  const ratio = ours === null || peer === null || peer === 0 ? null : ours / peer;
  return {
    work,
    ours,
    peer,
    ratio,
    target: target === undefined ? null : describe(target),
    reached: target === undefined ? null : isReached(target, target.of === "ours" ? ours : ratio),
    unit,
    peerCommand: measurement.peerCommand ?? null,
    peers: measurement.peers ?? null,
    failure: measurement.failure ?? null,
  };
}

/** One row as a line, for who waits for the others. */
export function formatLine(row: Row): string {
  const [, [work = "", ...cells] = []] = cellsOf([row]);
  return [`${work}:`, ...cells.filter((cell) => cell !== "-")].join("  ");
}

/** Rows as a table for a terminal, with what does not fit into it below. */
export function formatTable(rows: readonly Row[]): string {
  const cells = cellsOf(rows);
  const widths =
    cells[0]?.map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0))) ?? [];
  const table = cells.map((line) =>
    line
      .map((cell, column) =>
        isText(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
  return [...table, ...notesOf(rows)].join("\n");
}

/** The same for a page. */
export function formatMarkdown(rows: readonly Row[]): string {
  const [head = [], ...body] = cellsOf(rows);
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const rule = head.map((_, column) => (isText(column) ? "---" : "---:"));
  const notes = notesOf(rows).map((note) => `- ${note}`);
  return [line(head), line(rule), ...body.map(line), "", ...notes].join("\n");
}

function cellsOf(rows: readonly Row[]): string[][] {
  return [
    ["work", "ours", "peer", "ratio", "target", "reached"],
    ...rows.map((row) => [
      row.work,
      figure(row.ours, row.unit),
      figure(row.peer, row.unit),
      row.ratio === null ? "-" : row.ratio.toFixed(2),
      row.target ?? "-",
      row.reached === null ? "-" : row.reached ? "yes" : "NO",
    ]),
  ];
}

/** Failures, all peers' figures where there are several, and the commands of those that are in the table, each once. */
function notesOf(rows: readonly Row[]): string[] {
  const failures = rows
    .filter((row) => row.failure !== null)
    .map((row) => `not measured: ${row.work}: ${row.failure}`);
  const peers = rows
    .filter((row) => row.peers !== null)
    .map((row) => {
      const figures = Object.entries(row.peers ?? {});
      return `${row.work}: ${figures.map(([name, value]) => `${name} ${figure(value, row.unit)}`).join(", ")}`;
    });
  const commands = new Set(rows.map((row) => row.peerCommand).filter((command) => command !== null));
  return [...failures, ...peers, ...[...commands].map((command) => `peer: ${command}`)];
}

function describe(target: Target): string {
  const bounds = [
    ...(target.atMost === undefined ? [] : [`${target.of} <= ${rounded(target.atMost)}`]),
    ...(target.atLeast === undefined ? [] : [`${target.of} >= ${rounded(target.atLeast)}`]),
  ];
  return bounds.join(", ");
}

function rounded(bound: number): number {
  return Number(bound.toPrecision(3));
}

function isReached(target: Target, value: number | null): boolean {
  return value !== null && value <= (target.atMost ?? Infinity) && value >= (target.atLeast ?? -Infinity);
}

function figure(value: number | null, unit: Row["unit"]): string {
  return value === null ? "-" : `${value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${unit}`;
}

function isText(column: number): boolean {
  return column === 0 || column > 3;
}
