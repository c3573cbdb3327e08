import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { UsageError } from "./errors.ts";
import { composeMessage } from "./outgoing-message.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "longshore-cli-"));
});
afterEach(() => rm(directory, { recursive: true }));

const to = { agent: "helper", channel: "http", conversation: "c", sender: "ada" };

it("has files by their bytes, and what is at a URL by that", async () => {
  const path = join(directory, "note.txt");
  await writeFile(path, "hi");
  const { attachments } = await composeMessage("1", "look", to, [path, "https://files.example.org/a?b"]);
  expect(attachments).toEqual([
    { name: "note.txt", data: Buffer.from("hi").toString("base64") },
    { url: "https://files.example.org/a?b" },
  ]);
});

it("has no more bytes of files than one request can hold", async () => {
  const paths = [join(directory, "small"), join(directory, "large")];
  for (const path of paths) await writeFile(path, "x");
  await truncate(paths[1] as string, 370 * 1024 ** 2);
  await expect(composeMessage("1", "look", to, paths)).rejects.toThrow(/large.*together, more only by URL/);
});

it("says which file can't be attached", async () => {
  const message = composeMessage("1", "look", to, [join(directory, "missing")]);
  await expect(message).rejects.toThrow(UsageError);
  await expect(message).rejects.toThrow("missing");
});
