import type { AcceptedMessage } from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { inboundBatches } from "./inbound-rows.ts";

function message(id: string, wake = true): AcceptedMessage {
  return {
    id,
    sessionId: "s",
    kind: "chat",
    tenant: "acme",
    agent: "claw",
    channel: "http",
    conversation: "c",
    sender: { id: "ada" },
    text: `text of ${id}`,
    attachments: [],
    acceptedAt: "2026-01-01T00:00:00.000Z",
    ...(wake ? {} : { wake: false }),
  };
}

/** Ids, with a `-` before those that wake nobody. */
const batchesOf = (messages: readonly AcceptedMessage[]) =>
  inboundBatches(messages, []).map((batch) =>
    batch.map(({ id, trigger }) => (trigger === 1 ? id : `-${id}`)).join(" "),
  );

const many = (count: number, wake: boolean) =>
  Array.from({ length: count }, (_, at) => message(`${wake ? "w" : "c"}${at}`, wake));

describe("a turn's messages as rows", () => {
  it("are one batch where they fit", () => {
    expect(batchesOf([message("a", false), message("b")])).toEqual(["-a b"]);
    expect(batchesOf(many(10, true))).toEqual(["w0 w1 w2 w3 w4 w5 w6 w7 w8 w9"]);
  });

  it("are batches of what is read at once, each with a message that wakes", () => {
    expect(batchesOf(many(12, true))).toEqual(["w0 w1 w2 w3 w4 w5 w6 w7 w8 w9", "w10 w11"]);
    const mixed = [message("a"), ...many(9, false), message("z")];
    expect(batchesOf(mixed)).toEqual(["a", "-c0 -c1 -c2 -c3 -c4 -c5 -c6 -c7 -c8 z"]);
  });

  it("tell all that was said before, the oldest of it together", () => {
    const [batch] = inboundBatches([...many(30, false), message("z")], []);
    expect(batch).toHaveLength(10);
    const texts = batch?.map(({ content }) => JSON.parse(content).text as string) ?? [];
    for (let at = 0; at < 30; at++) expect(texts.join("\n")).toContain(`text of c${at}`);
    expect(texts.at(-1)).toBe("text of z");
    expect(batch?.slice(0, -1).every(({ trigger }) => trigger === 0)).toBe(true);
  });

  it("say once, before the first that wakes, what was sent in earlier attempts", () => {
    const [batch] = inboundBatches([message("a", false), message("b"), message("c")], ["hello\nthere"]);
    const texts = batch?.map(({ content }) => JSON.parse(content).text as string) ?? [];
    expect(texts[0]).toBe("text of a");
    expect(texts[1]).toMatch(/> hello\n> there\n\ntext of b$/);
    expect(texts[2]).toBe("text of c");
  });
});
