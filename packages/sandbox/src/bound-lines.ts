import { Transform, type TransformCallback } from "node:stream";
import { OutputLimitError } from "./errors.ts";

export interface BoundLinesOptions {
  /** Longest line without its newline, in bytes. */
  readonly maxLineBytes: number;
}

const NEWLINE = 0x0a;

/**
 * A stream that passes bytes on in whole lines, each chunk one or more lines with their newline, so that a
 * reader decodes no character cut in two and buffers no more than one line. What follows the last newline
 * is passed on at the end. A longer line destroys the stream with `OutputLimitError`, also when its end
 * has not come yet.
 */
export function boundLines(options: BoundLinesOptions): Transform {
  const { maxLineBytes } = options;
  let pieces: Buffer[] = [];
  let piecesBytes = 0;

  return new Transform({
    transform(chunk: Buffer, _encoding, done: TransformCallback) {
      let lineStart = 0;
      for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, lineStart)) {
        const carried = lineStart === 0 ? piecesBytes : 0;
        if (carried + end - lineStart > maxLineBytes) return done(new OutputLimitError(maxLineBytes));
        lineStart = end + 1;
      }
      if (lineStart > 0) {
        this.push(Buffer.concat([...pieces, chunk.subarray(0, lineStart)]));
        pieces = [];
        piecesBytes = 0;
      }
      const rest = chunk.subarray(lineStart);
      piecesBytes += rest.length;
      if (piecesBytes > maxLineBytes) return done(new OutputLimitError(maxLineBytes));
      if (rest.length > 0) pieces.push(rest);
      return done();
    },
    flush(done: TransformCallback) {
      done(null, piecesBytes > 0 ? Buffer.concat(pieces) : undefined);
    },
  });
}
