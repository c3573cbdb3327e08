import type { Measurement, Target } from "../row.ts";
import { type Contender, median } from "../turns.ts";
import type { Peer } from "./peers.ts";

/** What takes part under our own name, in the worker's way: in a process that runs already. */
export const OURS = "ours";

/** The same with the start of a process, as all peers have it. */
export const OURS_WHOLE = "ours, whole process";

export interface Comparison {
  readonly work: string;
  readonly unit: Measurement["unit"];
  readonly ours: number;
  readonly peers: ReadonlyMap<Peer, number>;
  readonly command: "upload" | "download";
  readonly target?: Target;
  /** Whether to tell the figures of all peers, not only the best. @default true */
  readonly tellAll?: boolean;
}

/** A row beside the best of the peers. */
export function comparedRow({ work, unit, ours, peers, command, target, tellAll }: Comparison): Measurement {
  const [best] = [...peers].toSorted(([, a], [, b]) => a - b);
  return {
    work,
    unit,
    ours,
    peer: best?.[1] ?? null,
    ...(best === undefined ? {} : { peerCommand: best[0].commands[command] }),
    ...(tellAll === false
      ? {}
      : { peers: Object.fromEntries([...peers].map(([peer, value]) => [peer.name, value])) }),
    ...(target === undefined ? {} : { target }),
  };
}

/** A row of our own figure. */
export function ownRow(work: string, unit: Measurement["unit"], ours: number, atMost?: number): Measurement {
  const target = atMost === undefined ? {} : { target: { of: "ours", atMost } as const };
  return { work, unit, ours, peer: null, ...target };
}

/** Each peer's figure: the median of its runs. */
export function mediansOf(
  peers: readonly Peer[],
  results: ReadonlyMap<string, readonly number[]>,
): Map<Peer, number> {
  return new Map(peers.map((peer) => [peer, median(results.get(peer.name) ?? [])]));
}

/** What a contender did has to be there. @throws when there are other than that many files */
export function expectFiles(found: number, expected: number, { name }: Pick<Contender<never>, "name">): void {
  if (found !== expected) throw new Error(`${name} left ${found} files of ${expected}`);
}
