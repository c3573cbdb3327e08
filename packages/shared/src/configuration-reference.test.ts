import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { configurationReference } from "./configuration-reference.ts";

const docs = new URL("../../../docs/configuration.md", import.meta.url);

it("is what docs/configuration.md says (`npx vitest run -u packages/shared` brings it up to date)", async () => {
  await expect(await withReference()).toMatchFileSnapshot(docs.pathname);
});

/** The page: an introduction, which people write, and below the mark the reference. */
async function withReference(): Promise<string> {
  const page = await readFile(docs, "utf8");
  const mark = "<!-- reference: generated from packages/shared/src/configuration-schema.ts -->\n";
  expect(page).toContain(mark);
  return `${page.slice(0, page.indexOf(mark))}${mark}\n${configurationReference()}`;
}
