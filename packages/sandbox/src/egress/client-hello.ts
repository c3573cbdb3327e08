/** What the beginning of a connection says of the server that its client wants. */
export type ClientHello =
  | { readonly kind: "incomplete" }
  /** Not the beginning of TLS, or of TLS as nobody writes it. */
  | { readonly kind: "other" }
  /** Undefined: it names none. */
  | { readonly kind: "tls"; readonly serverName: string | undefined };

const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER_BYTES = 5;
const RECORD_BYTES_MAX = 16_384;
const HANDSHAKE_HEADER_BYTES = 4;
const VERSION_AND_RANDOM_BYTES = 34;
const SERVER_NAME_EXTENSION = 0;
const HOST_NAME = 0;
/** Far above any client's; those with post-quantum keys have some 2,000. */
export const CLIENT_HELLO_BYTES_MAX = 16_384;

const incomplete: ClientHello = { kind: "incomplete" };
const other: ClientHello = { kind: "other" };

/** Reads the server's name (RFC 6066) from the first bytes that a client sent, however they are cut. */
export function readClientHello(bytes: Buffer): ClientHello {
  const handshake = handshakeOf(bytes);
  if (!Buffer.isBuffer(handshake)) return handshake;
  if (handshake.length < HANDSHAKE_HEADER_BYTES) return incomplete;
  if (handshake[0] !== CLIENT_HELLO) return other;
  const length = handshake.readUIntBE(1, 3);
  if (length > CLIENT_HELLO_BYTES_MAX) return other;
  if (handshake.length < HANDSHAKE_HEADER_BYTES + length) return incomplete;
  try {
    const hello = new Fields(handshake.subarray(HANDSHAKE_HEADER_BYTES, HANDSHAKE_HEADER_BYTES + length));
    return { kind: "tls", serverName: serverNameOf(hello) };
  } catch (error) {
    if (error instanceof MalformedError) return other;
    throw error;
  }
}

/** The handshake's bytes without the records around them. */
function handshakeOf(bytes: Buffer): Buffer | ClientHello {
  const parts: Buffer[] = [];
  for (let offset = 0; offset < bytes.length; ) {
    const isTls = bytes[offset] === HANDSHAKE_RECORD && (bytes[offset + 1] ?? 3) === 3;
    if (!isTls) return parts.length > 0 ? Buffer.concat(parts) : other;
    if (bytes.length < offset + RECORD_HEADER_BYTES) break;
    const length = bytes.readUInt16BE(offset + 3);
    if (length === 0 || length > RECORD_BYTES_MAX) return other;
    const start = offset + RECORD_HEADER_BYTES;
    parts.push(bytes.subarray(start, start + length));
    offset = start + length;
  }
  return Buffer.concat(parts);
}

function serverNameOf(hello: Fields): string | undefined {
  hello.take(VERSION_AND_RANDOM_BYTES);
  hello.vector(1);
  hello.vector(2);
  hello.vector(1);
  if (hello.isEmpty) return undefined;
  const extensions = new Fields(hello.vector(2));
  let found: string | undefined;
  while (!extensions.isEmpty) {
    const type = extensions.number(2);
    const content = extensions.vector(2);
    if (type !== SERVER_NAME_EXTENSION) continue;
    // Two names, and nobody knows which one the server looks at.
    if (found !== undefined) throw new MalformedError();
    const names = new Fields(new Fields(content).vector(2));
    if (names.number(1) !== HOST_NAME) throw new MalformedError();
    found = names.vector(2).toString("latin1");
    if (!names.isEmpty) throw new MalformedError();
  }
  return found;
}

class MalformedError extends Error {}

/** Reads numbers and vectors with a length before them. */
class Fields {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isEmpty(): boolean {
    return this.#offset === this.#bytes.length;
  }

  take(length: number): Buffer {
    const end = this.#offset + length;
    if (end > this.#bytes.length) throw new MalformedError();
    const part = this.#bytes.subarray(this.#offset, end);
    this.#offset = end;
    return part;
  }

  number(bytes: 1 | 2): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }

  vector(lengthBytes: 1 | 2): Buffer {
    return this.take(this.number(lengthBytes));
  }
}
