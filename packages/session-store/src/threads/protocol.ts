import type { BytePath } from "../format/byte-path.ts";
import { FRAME_BYTES_MAX } from "../format/limits.ts";
import type { DirectoryListing } from "../tree/directory-listing.ts";
import { packedBytesMax } from "../tree/frame-codec.ts";
import type { FileToPack, PackedFile } from "../tree/pack-files.ts";
import type { FrameToWrite, Owner, WrittenFiles } from "../tree/write-frames.ts";
import type { ThreadError } from "./thread-error.ts";

/** What the main thread asks a tree thread for. A descriptor is valid in every thread of the process. */
export type ThreadRequest =
  | {
      readonly kind: "pack";
      readonly rootFd: number;
      readonly files: readonly FileToPack[];
      /** Hashes of known chunks, 32 bytes each. */
      readonly known: Uint8Array;
    }
  | {
      readonly kind: "write";
      readonly rootFd: number;
      readonly bytes: Uint8Array;
      readonly frames: readonly FrameToWrite[];
      readonly owner: Owner | undefined;
    }
  | { readonly kind: "list"; readonly rootFd: number; readonly paths: readonly BytePath[] }
  /** The main thread has worked off one batch of the running `pack`. */
  | { readonly kind: "credit"; readonly memory: SharedArrayBuffer }
  /** The running `pack` is not needed any more. */
  | { readonly kind: "cancel" };

export type ThreadAnswer =
  | {
      readonly kind: "batch";
      readonly items: readonly (PackedFile | FrameInBatch)[];
      /** Holds the frames; free to be filled again with the credit for this batch. */
      readonly memory: SharedArrayBuffer;
    }
  | { readonly kind: "packed" }
  | { readonly kind: "written"; readonly written: WrittenFiles }
  | { readonly kind: "listed"; readonly listings: readonly (DirectoryListing | undefined)[] }
  | { readonly kind: "failed"; readonly failure: ThreadError };

/** A packed frame in the memory of its batch. */
export interface FrameInBatch {
  readonly kind: "frame";
  readonly offset: number;
  readonly length: number;
  readonly plainLength: number;
}

/** Batches of a `pack` that are on their way or being worked off, per thread. */
export const BATCHES_AHEAD = 2;

/** Packed bytes of a batch after which it is sent. */
export const BATCH_BYTES = 1024 * 1024;

/** Memory of a batch: it is sent once it is full, and the last frame may fill it by far. */
export const BATCH_MEMORY_BYTES = BATCH_BYTES + packedBytesMax(FRAME_BYTES_MAX);
