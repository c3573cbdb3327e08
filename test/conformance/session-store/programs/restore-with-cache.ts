import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { openBackend, SessionStore } from "@longshore/session-store";

// Restores the newest generation of a session again and again through a chunk cache, until it is ended; writes a line
// after each time.

const [url = "", directory = "", scratch = "", maxBytes = ""] = process.argv.slice(2);
const {
  S3_ENDPOINT: endpoint,
  AWS_ACCESS_KEY_ID: accessKeyId = "",
  AWS_SECRET_ACCESS_KEY: secretAccessKey = "",
} = process.env;
const options = { forcePathStyle: true, region: "us-east-1", credentials: { accessKeyId, secretAccessKey } };
const ref = { tenant: "acme", sessionId: "s1" };
for (;;) {
  const store = new SessionStore({
    backend: openBackend(url, endpoint === undefined ? options : { ...options, endpoint }),
    cache: { directory, maxBytes: Number(maxBytes) },
  });
  const tree = mkdtempSync(join(scratch, "program-"));
  using _ = await store.hydrate(ref, await store.readNewest(ref), tree);
  rmSync(tree, { recursive: true });
  await store.close();
  process.stdout.write("restored\n");
}
