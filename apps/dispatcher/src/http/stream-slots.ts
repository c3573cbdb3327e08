import { ApiError } from "./api-error.ts";

/** Requests of one tenant that may be held open at once. */
const STREAMS_PER_TENANT = 1_000;

/** Bounds the requests that are held open (I11), by tenant, so that none takes the room of another (I10). */
export class StreamSlots {
  readonly #open = new Map<string, number>();

  /** Gives what frees the slot. Throws `ApiError` `TOO_MANY_STREAMS`. */
  take(tenant: string): () => void {
    const open = this.#open.get(tenant) ?? 0;
    if (open >= STREAMS_PER_TENANT) {
      throw new ApiError(429, "TOO_MANY_STREAMS", `${open} requests of this tenant are held open already`, {
        retryAfterSeconds: 5,
      });
    }
    this.#open.set(tenant, open + 1);
    let freed = false;
    return () => {
      if (freed) return;
      freed = true;
      const left = (this.#open.get(tenant) ?? 1) - 1;
      if (left > 0) this.#open.set(tenant, left);
      else this.#open.delete(tenant);
    };
  }
}
