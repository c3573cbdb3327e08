import { describe, expect, it } from "vitest";
import { nameAttachments } from "./attachment-names.ts";

const named = (...attachments: Parameters<typeof nameAttachments>[0]) =>
  nameAttachments(attachments).names.map(({ name }) => name);

describe("nameAttachments", () => {
  it("takes the name, else one from the content type, else one from the kind", () => {
    expect(
      named(
        { name: "zones.tab", contentType: "text/csv" },
        { contentType: "text/csv", kind: "document" },
        { contentType: "application/x-unheard-of" },
        { kind: "image" },
        {},
      ),
    ).toEqual(["zones.tab", "document-2.csv", "attachment-3", "image-4", "attachment-5"]);
  });

  it("makes each name unique, also where a file system ignores case", () => {
    expect(named({ name: "a.txt" }, { name: "A.txt" }, { name: "a.txt" }, { name: "a-2.txt" })).toEqual([
      "a.txt",
      "A-2.txt",
      "a-3.txt",
      "a-2-2.txt",
    ]);
  });

  it.each(["../etc/passwd", "a/b", "a\\b", "..", ".", " ", "a\u0000b", "a\nb", "\ud800"])(
    "refuses %j",
    (name) => {
      expect(nameAttachments([{ name: "good" }, { name }]).problems.map(({ where }) => where)).toEqual([
        "attachments.1.name",
      ]);
    },
  );

  it("shortens a long name between characters and keeps its extension", () => {
    const [name] = named({ name: `${"ä".repeat(400)}.csv` });
    expect(Buffer.byteLength(name as string)).toBeLessThanOrEqual(240);
    expect(name).toMatch(/^ä+\.csv$/);
  });

  it("gives two forms of the same letters one name each", () => {
    expect(named({ name: "\u00e4" }, { name: "a\u0308" })).toEqual(["\u00e4", "\u00e4-2"]);
  });

  it("finds the content type by the name where none was given", () => {
    expect(
      nameAttachments([{ name: "a.json" }, { name: "a" }]).names.map(({ contentType }) => contentType),
    ).toEqual(["application/json", "application/octet-stream"]);
  });
});
