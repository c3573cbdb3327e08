import { parentPort } from "node:worker_threads";
import { DirectoryDescriptor } from "@longshore/shared/session-tree";
import { listDirectories } from "../tree/directory-listing.ts";
import { type PackedFile, type PackedFrame, packFiles } from "../tree/pack-files.ts";
import { writeFrames } from "../tree/write-frames.ts";
import {
  BATCH_BYTES,
  BATCH_MEMORY_BYTES,
  BATCHES_AHEAD,
  type FrameInBatch,
  type ThreadAnswer,
  type ThreadRequest,
} from "./protocol.ts";
import { packError } from "./thread-error.ts";

// A thread that reads and writes session trees: one job at a time, told by messages.

const port = parentPort;
if (port === null) throw new Error("this module is the program of a thread");

let credits = 0;
let cancelled = false;
let onCredit: () => void = () => undefined;

port.on("message", (request: ThreadRequest) => {
  switch (request.kind) {
    case "credit":
      credits++;
      memories.push(request.memory);
      return onCredit();
    case "cancel":
      cancelled = true;
      return onCredit();
    case "write":
      return answering(() => {
        const root = DirectoryDescriptor.borrow(request.rootFd);
        const written = writeFrames(root, bufferOn(request.bytes), request.frames, request.owner);
        send({ kind: "written", written }, [written.buffer]);
      });
    case "list":
      return answering(() => {
        const listings = listDirectories(DirectoryDescriptor.borrow(request.rootFd), request.paths);
        const transferred = listings.flatMap((listing) =>
          listing === undefined ? [] : [listing.stats.buffer],
        );
        send({ kind: "listed", listings }, transferred);
      });
    case "pack":
      credits = BATCHES_AHEAD;
      cancelled = false;
      void answering(() => pack(request));
  }
});

async function pack(request: ThreadRequest & { kind: "pack" }): Promise<void> {
  const root = DirectoryDescriptor.borrow(request.rootFd);
  let batch = new Batch();
  for (const item of packFiles(root, request.files, hashesIn(request.known))) {
    batch.add(item);
    if (!batch.isFull) continue;
    await credit();
    if (cancelled) break;
    batch.send();
    batch = new Batch();
  }
  if (!cancelled) batch.send();
  send({ kind: "packed" }, []);
}

/** Memories of batches that nobody uses, kept for the next ones: to get and to give back so many bytes takes long. */
const memories: SharedArrayBuffer[] = [];

/** Results on their way to the main thread; the frames lie in memory that both share. */
class Batch {
  readonly #memory = memories.pop() ?? new SharedArrayBuffer(BATCH_MEMORY_BYTES);
  readonly #items: (PackedFile | FrameInBatch)[] = [];
  #length = 0;
  #bytes = 0;

  get isFull(): boolean {
    return this.#bytes >= BATCH_BYTES;
  }

  add(item: PackedFile | PackedFrame): void {
    if (item.kind === "file") {
      this.#items.push(item);
      // A file of many chunks that are all known grows no frame, but its result has a size too.
      this.#bytes += 200 + (item.chunks?.length ?? 0) * 100;
      return;
    }
    const { packed, plainLength } = item;
    new Uint8Array(this.#memory).set(packed, this.#length);
    this.#items.push({ kind: "frame", offset: this.#length, length: packed.length, plainLength });
    this.#length += packed.length;
    this.#bytes += packed.length;
  }

  send(): void {
    send({ kind: "batch", items: this.#items, memory: this.#memory }, []);
  }
}

/** Waits until the main thread has taken enough of what was sent: it is what bounds the memory of both. */
async function credit(): Promise<void> {
  while (credits === 0 && !cancelled) {
    await new Promise<void>((resolve) => {
      onCredit = resolve;
    });
  }
  credits--;
}

/** The same memory as a Buffer. */
function bufferOn({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function hashesIn(known: Uint8Array): Set<string> {
  const text = Buffer.from(known.buffer, known.byteOffset, known.byteLength).toString("latin1");
  const hashes = new Set<string>();
  for (let at = 0; at < text.length; at += 32) hashes.add(text.slice(at, at + 32));
  return hashes;
}

async function answering(job: () => void | Promise<void>): Promise<void> {
  try {
    await job();
  } catch (error) {
    send({ kind: "failed", failure: packError(error) }, []);
  }
}

function send(answer: ThreadAnswer, transferred: ArrayBuffer[]): void {
  port?.postMessage(answer, transferred);
}
