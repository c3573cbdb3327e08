import { Readable, Writable } from "node:stream";
import { EngineProtocolError } from "../errors.ts";

const HEADER_BYTES = 8;
const STDOUT = 1;
const STDERR = 2;
const STDOUT_BUFFER_BYTES = 64 * 1024;

/**
 * Takes the engine's attach stream apart: frames of a header (stream number, three zero bytes, length as
 * 32 bits, big-endian) and that many bytes.
 *
 * Bounded: a frame is never gathered; its bytes go on as they come. While nobody reads `stdout`, the write
 * that carried bytes for it stays open, so that the socket is not read and the sandbox's writer blocks.
 * Standard error goes to `onStderr` at once. (The usual demultiplexer of the client library buffers
 * without bound: 512 MB of output became 1.3 GB of memory.)
 */
export class AttachDemultiplexer extends Writable {
  /** Standard output. It ends with the attach stream; it fails with `EngineProtocolError` on garbage. */
  readonly stdout: Readable;
  readonly #onStderr: (chunk: Buffer) => void;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerFilled = 0;
  #stream = 0;
  #frameRest = 0;
  #resumeWrite: (() => void) | undefined;

  constructor(onStderr: (chunk: Buffer) => void) {
    super({ highWaterMark: STDOUT_BUFFER_BYTES });
    this.#onStderr = onStderr;
    this.stdout = new Readable({
      highWaterMark: STDOUT_BUFFER_BYTES,
      read: () => this.#readOn(),
      destroy: (error, done) => {
        this.#readOn();
        done(error);
      },
    });
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      this.#take(chunk);
    } catch (error) {
      done(error as Error);
      return;
    }
    const { stdout } = this;
    // Asked of the state after the whole chunk: a reader may have drained it in the middle already, and
    // would not ask again.
    const isFull = stdout.readableLength >= stdout.readableHighWaterMark;
    if (isFull && !stdout.destroyed) this.#resumeWrite = done;
    else done();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (this.#frameRest > 0 || this.#headerFilled > 0) {
      done(new EngineProtocolError("it ended inside a frame"));
      return;
    }
    this.stdout.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#readOn();
    if (error) this.stdout.destroy(error);
    else if (!this.stdout.readableEnded) this.stdout.push(null);
    done(error);
  }

  #readOn(): void {
    const resumeWrite = this.#resumeWrite;
    this.#resumeWrite = undefined;
    resumeWrite?.();
  }

  #take(chunk: Buffer): void {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#frameRest === 0) {
        const part = chunk.subarray(offset, offset + HEADER_BYTES - this.#headerFilled);
        this.#header.set(part, this.#headerFilled);
        this.#headerFilled += part.length;
        offset += part.length;
        if (this.#headerFilled < HEADER_BYTES) break;
        this.#headerFilled = 0;
        this.#readHeader();
        continue;
      }
      const part = chunk.subarray(offset, offset + this.#frameRest);
      offset += part.length;
      this.#frameRest -= part.length;
      if (this.#stream === STDERR) this.#onStderr(part);
      else if (!this.stdout.destroyed) this.stdout.push(part);
    }
  }

  #readHeader(): void {
    const stream = this.#header[0];
    if ((stream !== STDOUT && stream !== STDERR) || this.#header.readUIntBE(1, 3) !== 0) {
      throw new EngineProtocolError(`a frame begins with ${this.#header.toString("hex")}`);
    }
    this.#stream = stream;
    this.#frameRest = this.#header.readUInt32BE(4);
  }
}
