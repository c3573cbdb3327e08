/**
 * An agent of NanoClaw's contract with two databases, as the contract describes it and with nothing of the worker's code: it polls
 * `inbound.db`, acknowledges in `outbound.db`, and writes its messages there. What it does with a message is its text: the body
 * of an async function, which has `say`, `row`, `handled` (waits until the host has noted all its rows), `ack`, `beat`, `rows`, `inbound`, `outbound`, `fs` and `sleep`.
 */
const SCRIPT = `
const { DatabaseSync } = require("node:sqlite");
const fs = require("node:fs");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const AsyncFunction = (async () => {}).constructor;
const inbound = (sql, ...values) => {
  const db = new DatabaseSync("/workspace/inbound.db", { readOnly: true });
  try {
    db.exec("PRAGMA busy_timeout = 5000; PRAGMA mmap_size = 0");
    return db.prepare(sql).all(...values);
  } finally {
    db.close();
  }
};
const outbound = new DatabaseSync("/workspace/outbound.db");
outbound.exec("PRAGMA journal_mode = DELETE; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON");
outbound.exec("DELETE FROM processing_ack WHERE status = 'processing'");
const ack = (id, status) =>
  outbound.prepare("INSERT OR REPLACE INTO processing_ack VALUES (?, ?, ?)").run(id, status, new Date().toISOString());
const beat = () => fs.writeFileSync("/workspace/.heartbeat", "");
const top = () => Math.max(
  outbound.prepare("SELECT coalesce(max(seq), 0) AS seq FROM messages_out").get().seq,
  inbound("SELECT coalesce(max(seq), 0) AS seq FROM messages_in")[0].seq,
);
let count = 0;
const row = (values) => {
  const all = { id: "msg-" + Date.now() + "-" + ++count, kind: "chat", inReplyTo: null, ...values };
  const above = top();
  const seq = above % 2 === 0 ? above + 1 : above + 2;
  outbound
    .prepare("INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, platform_id, channel_type, thread_id, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
    .run(all.id, seq, all.inReplyTo, new Date().toISOString(), all.kind, all.platform ?? null, all.channel ?? null, null, JSON.stringify(all.content));
  return all.id;
};
const handled = async () => {
  for (;;) {
    const noted = new Set(inbound("SELECT message_out_id AS id FROM delivered").map((one) => one.id));
    if (outbound.prepare("SELECT id FROM messages_out").all().every((one) => noted.has(one.id))) return;
    await sleep(50);
  }
};
const main = async () => {
  for (;;) {
    const waiting = inbound("SELECT * FROM messages_in WHERE status = 'pending' AND (process_after IS NULL OR datetime(process_after) <= datetime('now')) ORDER BY seq DESC LIMIT 10");
    const acked = new Set(outbound.prepare("SELECT message_id FROM processing_ack").all().map((one) => one.message_id));
    const rows = waiting.filter((one) => !acked.has(one.id)).reverse().filter((one) => one.kind !== "system");
    if (!rows.some((one) => one.trigger === 1)) {
      await sleep(50);
      continue;
    }
    for (const one of rows) ack(one.id, "processing");
    beat();
    const first = rows[0];
    const say = (text, more = {}) =>
      row({ inReplyTo: first.id, platform: first.platform_id, channel: first.channel_type, content: { text, ...more } });
    const { text, prompt } = JSON.parse(rows.findLast((one) => one.trigger === 1).content);
    const body = text ?? prompt;
    const given = { say, row, handled, ack, beat, rows, inbound, outbound, fs, sleep };
    await new AsyncFunction(...Object.keys(given), body)(...Object.values(given));
    for (const one of rows) ack(one.id, "completed");
  }
};
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
`;

export const mailboxRunner: readonly string[] = ["/usr/local/bin/node", "--no-warnings", "-e", SCRIPT];
