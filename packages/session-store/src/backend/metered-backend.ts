import type { Backend, Content } from "./backend.ts";

/** Told of an object that was made for a session or a volume of a tenant. */
export type StoredListener = (tenant: string, bytes: number) => void;

/**
 * The same backend, which tells what is made of sessions and volumes. An object of which nobody knows whether it was made is
 * not told.
 */
export function meteredBackend(backend: Backend, onStored: StoredListener): Backend {
  return {
    url: backend.url,
    get: (key, options) => backend.get(key, options),
    async putIfAbsent(key, content, options) {
      const answer = await backend.putIfAbsent(key, content, options);
      const tenant = /^([^/]+)\/(?:sessions|volumes)\//.exec(key)?.[1];
      if (answer.outcome === "created" && tenant !== undefined) onStored(tenant, sizeOf(content));
      return answer;
    },
    replace: (key, content, options) => backend.replace(key, content, options),
    list: (prefix, options) => backend.list(prefix, options),
    delete: (keys, options) => backend.delete(keys, options),
    head: (key, options) => backend.head(key, options),
    presignGet: (key, options) => backend.presignGet(key, options),
    close: () => backend.close(),
  };
}

function sizeOf(content: Content): number {
  return Buffer.isBuffer(content) ? content.length : content.sizeBytes;
}
