import { parentPort } from "node:worker_threads";
import { DirectoryDescriptor } from "@longshore/shared/session-tree";
import { listDirectories } from "../tree/directory-listing.ts";
import { type PackedFile, type PackedFrame, packFiles } from "../tree/pack-files.ts";
import { writeFrames } from "../tree/write-frames.ts";
import { BATCH_BYTES, BATCHES_AHEAD, type ThreadAnswer, type ThreadRequest } from "./protocol.ts";
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
      return onCredit();
    case "cancel":
      cancelled = true;
      return onCredit();
    case "write":
      return answering(() => {
        const root = DirectoryDescriptor.borrow(request.rootFd);
        const written = writeFrames(root, Buffer.from(request.bytes), request.frames, request.owner);
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
  let items: (PackedFile | PackedFrame)[] = [];
  let bytes = 0;
  for (const item of packFiles(root, request.files, hashesIn(request.known))) {
    items.push(item);
    // A file of many chunks that are all known grows no frame, but its result has a size too.
    bytes += item.kind === "frame" ? item.packed.length : 200 + (item.chunks?.length ?? 0) * 100;
    if (bytes < BATCH_BYTES) continue;
    await credit();
    if (cancelled) break;
    sendBatch(items);
    items = [];
    bytes = 0;
  }
  if (!cancelled) sendBatch(items);
  send({ kind: "packed" }, []);
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

function sendBatch(items: readonly (PackedFile | PackedFrame)[]): void {
  const transferred: ArrayBuffer[] = [];
  for (const item of items) if (item.kind === "frame") transferred.push(item.packed.buffer);
  send({ kind: "batch", items }, transferred);
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
