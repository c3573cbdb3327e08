import { isAbsolute } from "node:path";
import { fileURLToPath } from "node:url";
import { BadStoreUrlError } from "../errors.ts";
import type { Backend } from "./backend.ts";
import { FileBackend } from "./file-backend.ts";
import { S3Backend, type S3BackendOptions } from "./s3-backend.ts";

/** Options for both kinds of store; `file://` uses `onRequest` only. */
export type BackendOptions = S3BackendOptions;

/**
 * Opens an object store by its address: `s3://bucket`, `s3://bucket/prefix` or `file:///absolute/path`.
 * Nothing is sent yet; `probeBackend` finds out whether it can be used.
 *
 * @throws BadStoreUrlError
 */
export function openBackend(url: string, options: BackendOptions = {}): Backend {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined) throw new BadStoreUrlError(url, "not a URL");
  if (parsed.username !== "" || parsed.password !== "") {
    throw new BadStoreUrlError(`${parsed.protocol}//…`, "credentials do not belong into the address");
  }
  if (parsed.search !== "" || parsed.hash !== "")
    throw new BadStoreUrlError(url, "it has a query or a fragment");
  switch (parsed.protocol) {
    case "s3:": {
      if (parsed.hostname === "") throw new BadStoreUrlError(url, "it names no bucket");
      const prefix = decodeURIComponent(parsed.pathname).replace(/^\/+|\/+$/g, "");
      return new S3Backend(parsed.hostname, prefix, options);
    }
    case "file:": {
      const path = parsed.hostname === "" ? fileURLToPath(parsed) : "";
      if (!isAbsolute(path) || path === "/")
        throw new BadStoreUrlError(url, "it names no absolute directory");
      return new FileBackend(path.replace(/\/+$/, ""), options);
    }
    default:
      throw new BadStoreUrlError(url, `${parsed.protocol}// is no kind of object store`);
  }
}
