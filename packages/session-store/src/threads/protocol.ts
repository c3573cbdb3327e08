import type { BytePath } from "../format/byte-path.ts";
import type { DirectoryListing } from "../tree/directory-listing.ts";
import type { FileToPack, PackedFile, PackedFrame } from "../tree/pack-files.ts";
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
      readonly bytes: ArrayBuffer;
      readonly frames: readonly FrameToWrite[];
      readonly owner: Owner | undefined;
    }
  | { readonly kind: "list"; readonly rootFd: number; readonly paths: readonly BytePath[] }
  /** The main thread has worked off one batch of the running `pack`. */
  | { readonly kind: "credit" }
  /** The running `pack` is not needed any more. */
  | { readonly kind: "cancel" };

export type ThreadAnswer =
  | { readonly kind: "batch"; readonly items: readonly (PackedFile | PackedFrame)[] }
  | { readonly kind: "packed" }
  | { readonly kind: "written"; readonly written: WrittenFiles }
  | { readonly kind: "listed"; readonly listings: readonly (DirectoryListing | undefined)[] }
  | { readonly kind: "failed"; readonly failure: ThreadError };

/** Batches of a `pack` that are on their way or being worked off, per thread. */
export const BATCHES_AHEAD = 4;

/** Packed bytes of a batch after which it is sent. */
export const BATCH_BYTES = 1024 * 1024;
