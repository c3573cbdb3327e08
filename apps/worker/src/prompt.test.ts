import type { AcceptedMessage, StoredAttachment } from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { buildPrompt, type PromptAbilities } from "./prompt.ts";

const ALL: PromptAbilities = { image: true, embeddedContext: true };

function attached(
  name: string,
  contentType: string,
  content: Buffer,
): StoredAttachment & { content: Buffer } {
  const attachment = { name, kind: "file", contentType, sizeBytes: content.length, sha256: name };
  return { ...attachment, content } as StoredAttachment & { content: Buffer };
}

function messageWith(attachments: readonly StoredAttachment[]): AcceptedMessage {
  return {
    ...{ id: "m", agent: "shell", tenant: "acme", sessionId: "s", channel: "http", conversation: "c" },
    ...{ sender: { id: "u" }, text: "look", kind: "chat", acceptedAt: "2026-01-01T00:00:00.000Z" },
    attachments: [...attachments],
  };
}

/** The kinds of the blocks of a prompt with these attachments, and the blocks. */
async function promptWith(files: readonly ReturnType<typeof attached>[], abilities = ALL) {
  const read: string[] = [];
  const blocks = await buildPrompt(
    {
      messages: [messageWith(files)],
      turnId: "t",
      sent: [],
      destinations: {},
      read: async ({ name }) => {
        read.push(name);
        return files.find((file) => file.name === name)?.content ?? Buffer.alloc(0);
      },
    },
    abilities,
  );
  return { blocks, kinds: blocks.map(({ type }) => type), read };
}

const picture = attached("a.png", "image/png", Buffer.from("89504e47", "hex"));
const notes = attached("a.txt", "text/plain; charset=utf-8", Buffer.from("häng"));

describe("a prompt", () => {
  it("has the content of an image and of a text behind their links, where the agent takes it", async () => {
    const { blocks } = await promptWith([picture, notes]);
    expect(blocks.slice(1)).toEqual([
      {
        type: "resource_link",
        name: "a.png",
        uri: "file:///session/inbox/m/a.png",
        mimeType: "image/png",
        size: 4,
      },
      { type: "image", mimeType: "image/png", data: "iVBORw==", uri: "file:///session/inbox/m/a.png" },
      expect.objectContaining({ type: "resource_link", name: "a.txt" }),
      {
        type: "resource",
        resource: { uri: "file:///session/inbox/m/a.txt", mimeType: "text/plain", text: "häng" },
      },
    ]);
  });

  it("has links only for an agent that takes no more, and reads nothing for it", async () => {
    const { kinds, read } = await promptWith([picture, notes], {});
    expect(kinds).toEqual(["text", "resource_link", "resource_link"]);
    expect(read).toEqual([]);
    expect((await promptWith([picture, notes], { image: true })).read).toEqual(["a.png"]);
  });

  it.each([
    ["too large an image", attached("a.png", "image/png", Buffer.alloc(3_750_001))],
    ["too long a text", attached("a.txt", "text/plain", Buffer.alloc(65_537, "x"))],
    ["an image that no model takes", attached("a.svg", "image/svg+xml", Buffer.from("<svg/>"))],
    ["what is no text", attached("a.bin", "application/octet-stream", Buffer.from("x"))],
    ["what says it is text, and is none", attached("a.txt", "text/plain", Buffer.from([0xff, 0xfe]))],
  ])("has a link only for %s", async (_, file) => {
    expect((await promptWith([file])).kinds).toEqual(["text", "resource_link"]);
  });

  it("has at most 20 contents, and 16 MiB of them", async () => {
    const many = Array.from({ length: 25 }, (_, index) => ({ ...notes, name: `${index}.txt` }));
    expect((await promptWith(many)).kinds.filter((kind) => kind === "resource")).toHaveLength(20);
    const large = Array.from({ length: 6 }, (_, index) =>
      attached(`${index}.png`, "image/png", Buffer.alloc(3_750_000)),
    );
    expect((await promptWith(large)).kinds.filter((kind) => kind === "image")).toHaveLength(4);
  });
});
