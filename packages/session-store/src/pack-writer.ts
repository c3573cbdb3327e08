import { randomBytes } from "node:crypto";
import { putContent } from "./backend/put-content.ts";
import { FRAME_BYTES_MAX, INLINE_BYTES, PACK_BYTES, PACK_ID_BYTES } from "./format/limits.ts";
import type { Frame, FrameSource } from "./format/table-entry.ts";
import { frameName } from "./frame-ranges.ts";
import { type DirectoryRef, packKey } from "./keys.ts";
import type { StoreContext } from "./store-context.ts";
import { packedBytesMax } from "./tree/frame-codec.ts";
import type { PackedFrame } from "./tree/pack-files.ts";

/** Packs on their way to the store at once; each is in memory, and so is the one that is being filled. */
const UPLOADS_MAX = 2;

/** Memory that a pack begins with; it grows as frames come: most mirrors are small. */
const FIRST_BYTES = 64 * 1024;

/** Memory of a pack that is complete: the last frame may fill it by far. */
const MEMORY_BYTES = PACK_BYTES + packedBytesMax(FRAME_BYTES_MAX);

/** A frame that was handed over; `frame` says where it is once its pack is complete. */
export interface FrameSlot {
  frame: Frame | undefined;
}

/** Puts frames into packs and packs into the store, or, where there is little, into the commit record. */
export class PackWriter {
  readonly #context: StoreContext;
  readonly #ref: DirectoryRef;
  readonly #signal: AbortSignal | undefined;
  readonly #uploads = new Set<Promise<void>>();
  /** Memories of packs that are stored: to get and to give back so many bytes takes long. */
  readonly #memories: Buffer[] = [];
  #memory: Buffer = Buffer.allocUnsafe(0);
  #frames: {
    readonly offset: number;
    readonly length: number;
    readonly plainLength: number;
    readonly slot: FrameSlot;
  }[] = [];
  #bytes = 0;
  #packs = 0;
  #storedMs: number | undefined;
  #failure: unknown;

  constructor(context: StoreContext, ref: DirectoryRef, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#ref = ref;
    this.#signal = signal;
  }

  /** How many packs were put. */
  get packs(): number {
    return this.#packs;
  }

  /** When the store took the first of them, by its own clock, in ms; undefined: none yet. */
  get storedMs(): number | undefined {
    return this.#storedMs;
  }

  /** Copies a frame. @returns `wait`: the caller must not hand over more before it is settled */
  add({ packed, plainLength }: PackedFrame): {
    readonly slot: FrameSlot;
    readonly wait: Promise<void> | undefined;
  } {
    const slot: FrameSlot = { frame: undefined };
    this.#makeRoom(packed.length);
    this.#memory.set(packed, this.#bytes);
    this.#frames.push({ offset: this.#bytes, length: packed.length, plainLength, slot });
    this.#bytes += packed.length;
    if (this.#bytes >= PACK_BYTES) this.#flush();
    // Waited for before the next one is full: a third is never in memory beside two that are being put.
    const isFree = this.#uploads.size < UPLOADS_MAX || this.#bytes < PACK_BYTES / 2;
    return { slot, wait: isFree ? undefined : this.#oneUploaded() };
  }

  #makeRoom(length: number): void {
    const needed = this.#bytes + length;
    if (needed <= this.#memory.length) return;
    const doubled = Math.max(FIRST_BYTES, this.#memory.length * 2, needed);
    // Straight to the largest once it is clear that it is not little: it is used again then.
    const size = this.#packs > 0 || doubled > MEMORY_BYTES / 8 ? MEMORY_BYTES : doubled;
    const memory = (size === MEMORY_BYTES ? this.#memories.pop() : undefined) ?? Buffer.allocUnsafeSlow(size);
    this.#memory.copy(memory, 0, 0, this.#bytes);
    this.#memory = memory;
  }

  /**
   * Waits until all is stored.
   *
   * @param generation of the commit that is to be made, for what becomes part of its record; without it, nothing does
   * @returns that part
   */
  async finish(generation?: number): Promise<Buffer> {
    let inline: Buffer = Buffer.alloc(0);
    if (generation !== undefined && this.#packs === 0 && this.#bytes <= INLINE_BYTES)
      inline = this.#place({ kind: "log", generation });
    else if (this.#frames.length > 0) this.#flush();
    while (this.#uploads.size > 0) await this.#oneUploaded();
    if (this.#failure !== undefined) throw this.#failure;
    return inline;
  }

  /** Waits for uploads that run, whatever becomes of them: nothing of ours goes on after an error was reported. */
  async abandon(): Promise<void> {
    await Promise.all(this.#uploads);
  }

  async #oneUploaded(): Promise<void> {
    await Promise.race(this.#uploads);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #flush(): void {
    // Not a hash of it: the same bytes may lie in a pack of somebody's that is about to be collected.
    const id = randomBytes(PACK_ID_BYTES).toString("hex");
    const slots = this.#frames.map((frame) => frame.slot);
    const memory = this.#memory;
    const content = this.#place({ kind: "pack", id });
    this.#packs++;
    const upload = this.#upload(id, content, slots, memory).finally(() => this.#uploads.delete(upload));
    this.#uploads.add(upload);
  }

  async #upload(id: string, content: Buffer, slots: readonly FrameSlot[], memory: Buffer): Promise<void> {
    const key = packKey(this.#ref, id);
    const { backend, cache, random } = this.#context;
    try {
      const { storeTimeMs } = await putContent(backend, key, content, random, { signal: this.#signal });
      this.#storedMs = Math.min(this.#storedMs ?? storeTimeMs, storeTimeMs);
      if (cache === undefined) {
        // Not after an error: a request that was given up may still be reading it.
        if (memory.length === MEMORY_BYTES) this.#memories.push(memory);
        return;
      }
      for (const { frame } of slots) {
        if (frame === undefined) continue;
        const packed = content.subarray(frame.offset, frame.offset + frame.length);
        cache.put(frameName(this.#context, key, frame), packed);
      }
    } catch (error) {
      this.#failure ??= error;
    }
  }

  /** Tells all collected frames where they are, and begins anew. */
  #place(source: FrameSource): Buffer {
    for (const { slot, offset, length, plainLength } of this.#frames)
      slot.frame = { source, offset, length, plainLength };
    const content = this.#memory.subarray(0, this.#bytes);
    this.#memory = Buffer.allocUnsafe(0);
    this.#frames = [];
    this.#bytes = 0;
    return content;
  }
}
