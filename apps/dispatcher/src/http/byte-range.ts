import type { ByteRange } from "@longshore/session-store";

/** What a `Range` header asks for. */
export type RangeRequest =
  /** All of it: no range is asked for, or none that is understood, which RFC 9110 has ignored. */
  | { readonly kind: "whole" }
  | { readonly kind: "part"; readonly range: ByteRange }
  /** Nothing of the content lies in it: 416. */
  | { readonly kind: "unsatisfiable" };

/** `bytes=` and one range. Several at once are legal and ignored: the answer is then the whole. */
const ONE_RANGE = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/i;

/** Reads a `Range` header (RFC 9110, section 14) for content of so many bytes. */
export function parseRange(header: string | undefined, sizeBytes: number): RangeRequest {
  const [, first = "", last = ""] = ONE_RANGE.exec(header ?? "") ?? [];
  if (first === "" && last === "") return { kind: "whole" };
  if (first === "") {
    const length = Math.min(Number(last), sizeBytes);
    if (Number(last) === 0) return { kind: "unsatisfiable" };
    // The end of nothing is all of it, and can't be said by a `Content-Range`.
    if (sizeBytes === 0) return { kind: "whole" };
    return { kind: "part", range: { start: sizeBytes - length, end: sizeBytes } };
  }
  const start = Number(first);
  if (last !== "" && Number(last) < start) return { kind: "whole" };
  if (start >= sizeBytes) return { kind: "unsatisfiable" };
  const end = last === "" ? sizeBytes : Math.min(Number(last) + 1, sizeBytes);
  return { kind: "part", range: { start, end } };
}
