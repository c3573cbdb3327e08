import { expect, it } from "vitest";
import { Fleet } from "../../support/fleet.ts";

it("messages without wake are told with the next turn, in order, also when it is tried again", async () => {
  await using fleet = await Fleet.start({ agent: { context: { messages: 3 }, linger: "0s" } });
  const { api } = await fleet.startDispatcher();
  const worker = await fleet.startWorker();
  const wake = false;
  const lost = await api.send("c", "0", "$ echo 0 >> told", { wake });
  const context = [];
  for (const id of ["1", "2", "3"]) {
    const attachments =
      id === "2" ? [{ name: "note.txt", data: Buffer.from("noted").toString("base64") }] : [];
    context.push(
      await api.send("c", id, `$ echo ${id} >> told; cat ../inbox/*/note.txt`, { wake, attachments }),
    );
  }
  const text = "$ echo 4 >> told; cat told | tr '\\n' ' '";
  const asked = await api.ask("c", "4", text);
  expect(asked.state).toBe("answered");
  expect(asked.replies?.[0]?.text.trim()).toBe("1 2 3 4");
  for (const { messageId } of context)
    expect(await api.message(messageId)).toMatchObject({ state: "answered", replies: [] });
  expect(await api.message(lost.messageId)).toMatchObject({
    state: "cancelled",
    error: { code: "CONTEXT_DROPPED" },
  });
  expect(worker.lines.filter(({ msg }) => msg === "prompt sent")).toHaveLength(1);

  // Nothing of the context is lost with a turn that fails: it is told again.
  await api.send("d", "1", "$ echo once >> told", { wake });
  const failing = await api.send("d", "2", "!crash");
  await worker.line(
    ({ msg, messageIds }) => msg === "turn failed" && (messageIds as string[])[0] === failing.messageId,
  );
  const answered = await api.ask("d", "3", "$ cat told");
  expect((await api.message(failing.messageId)).state).toBe("dead");
  expect(answered.replies?.[0]?.text.trim()).toBe("once");
});
