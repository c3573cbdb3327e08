import { randomBytes } from "node:crypto";
import { StoreNotConditionalError } from "../errors.ts";
import type { Backend } from "./backend.ts";

/**
 * Finds out whether a backend can be read, written, listed and deleted from, and whether it keeps the one promise that
 * commits rest on: of two puts of one new key the second fails.
 *
 * @throws StoreNotConditionalError when it ignores `If-None-Match: *`; StoreUnavailableError, AmbiguousPutError,
 *   StoreAccessDeniedError, StoreRequestRefusedError when it can't be used at all
 */
export async function probeBackend(backend: Backend, signal?: AbortSignal): Promise<void> {
  const key = `probe/${randomBytes(16).toString("hex")}`;
  const options = signal === undefined ? {} : { signal };
  await backend.putIfAbsent(key, Buffer.from("first"), options);
  try {
    const { outcome: second } = await backend.putIfAbsent(key, Buffer.from("second"), options);
    const kept = await backend.get(key, options);
    if (second !== "exists" || kept.toString() !== "first") throw new StoreNotConditionalError(backend.url);
    await backend.list("probe/", { limit: 1, ...options });
  } finally {
    await backend.delete([key], options);
  }
}
