import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The clone that this module belongs to. */
export const repositoryRoot = fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");

/** What set-up makes once and uses again; keyed by content, safe to delete, never committed. */
export const cacheDirectory = join(repositoryRoot, ".cache");

/** The Node.js binary of the `node` npm package: the one that everything here runs on. */
export const nodeBinary = join(repositoryRoot, "node_modules/node/bin/node");
