import {
  deriveMessageId,
  deriveSessionId,
  QUEUE_PREFIX,
  queueNames,
  SCHEDULES_MAX,
  type Schedule,
  ScheduleBook,
  Schedules,
  systemClock,
} from "@longshore/shared";
import { type Job, Queue } from "bullmq";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { longshore } from "../cli/longshore.ts";
import { call, until } from "./client.ts";
import { DispatcherStack, keys, type Running } from "./dispatcher-stack.ts";

let stack: DispatcherStack;
let running: Running;
let inbound: Queue;

beforeAll(async () => {
  stack = await DispatcherStack.start();
  inbound = new Queue(queueNames.inbound, { connection: stack.worker.redis, prefix: QUEUE_PREFIX });
  running = await stack.dispatcher();
});
afterAll(async () => {
  await inbound.close();
  await stack[Symbol.asyncDispose]();
});

const api = (path: string, options = {}) => call(`${running.url}/v1${path}`, options);
const said = (conversation: string, more = {}) => ({
  ...{ agent: "helper", channel: "http", conversation, text: `in ${conversation}` },
  ...more,
});
const put = (id: string, more: object, options = {}) =>
  api("/schedules", { body: { id, message: said(id), ...more }, ...options });
const list = async (): Promise<{ id: string; nextAt?: string }[]> => (await api("/schedules")).body.schedules;
const session = (conversation: string) =>
  deriveSessionId("shared", { tenant: "acme", agent: "helper", channel: "http", conversation });
const mailbox = (conversation: string) => stack.worker.state.readMailbox(session(conversation), 100);
const occurrence = (id: string, dueMs: number) =>
  deriveMessageId(session(id), `${id}@${new Date(dueMs).toISOString()}`);

/** The job of a schedule's next time. */
async function nextJob(id: string): Promise<{ job: Job; dueMs: number }> {
  const dueMs = (await inbound.getJobScheduler(`acme/${id}`))?.next as number;
  return { job: (await inbound.getJob(`repeat:acme/${id}:${dueMs}`)) as Job, dueMs };
}

describe("a schedule", () => {
  it("is made, shown with its next time by its zone, replaced and removed", async () => {
    const made = await put("berlin", { cron: "30 9 * * *", timeZone: "Europe/Berlin" });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({
      ...{ id: "berlin", cron: "30 9 * * *", timeZone: "Europe/Berlin" },
      message: { ...said("berlin"), kind: "task", sender: { id: "schedule" } },
    });
    const clock = (at: string, timeZone: string) =>
      new Intl.DateTimeFormat("en-GB", { timeZone, hour: "2-digit", minute: "2-digit" }).format(new Date(at));
    expect(clock(made.body.nextAt, "Europe/Berlin")).toBe("09:30");
    expect(Date.parse(made.body.nextAt)).toBeGreaterThan(Date.now());

    const agents = await put("tokyo", { cron: "0 7 * * *" });
    expect(agents.body.timeZone).toBe("Asia/Tokyo");
    expect(clock(agents.body.nextAt, "Asia/Tokyo")).toBe("07:00");

    const replaced = await put("berlin", { every: "2h" });
    expect(replaced).toMatchObject({ status: 200, body: { everySeconds: 7_200 } });
    expect(replaced.body.cron).toBeUndefined();
    const inMs = Date.parse(replaced.body.nextAt) - Date.now();
    expect(inMs).toBeGreaterThan(7_100_000);
    expect(inMs).toBeLessThanOrEqual(7_200_000);
    // The same once more changes nothing about when.
    expect((await put("berlin", { every: "2h" })).body.nextAt).toBe(replaced.body.nextAt);
    expect((await list()).map(({ id }) => id)).toEqual(["berlin", "tokyo"]);
    expect(await inbound.getJobSchedulersCount()).toBe(2);

    for (const id of ["berlin", "tokyo"])
      expect((await api(`/schedules/${id}`, { method: "DELETE" })).status).toBe(204);
    expect((await api("/schedules/berlin", { method: "DELETE" })).body.code).toBe("SCHEDULE_NOT_FOUND");
    expect(await list()).toEqual([]);
    expect(await inbound.getJobSchedulersCount()).toBe(0);
    expect(await inbound.getJobCounts("delayed")).toEqual({ delayed: 0 });
  });

  it("that is paused is kept, and not due before it is put again", async () => {
    await put("paused", { every: "2h" });
    const { job } = await nextJob("paused");
    const paused = await put("paused", { every: "2h", paused: true });
    expect(paused.body).toMatchObject({ everySeconds: 7_200, paused: true });
    expect(paused.body.nextAt).toBeUndefined();
    expect(await job.getState()).toBe("unknown");
    // Nor does a keeper make it go on, or a job that was taken meanwhile send it.
    const book = new ScheduleBook(stack.worker.redis);
    const configuration = (): never => {
      throw new Error("no configuration is needed");
    };
    const schedules = new Schedules({ book, inbound, clock: systemClock, configuration });
    const [schedule] = await book.list("acme");
    expect(await schedules.ensure("acme", schedule as Schedule)).toBe(false);
    expect(await schedules.due(job)).toBeUndefined();
    expect(await inbound.getJobSchedulersCount()).toBe(0);
    const resumed = await put("paused", { every: "2h" });
    expect(resumed.body.paused).toBeUndefined();
    expect(Date.parse(resumed.body.nextAt)).toBeGreaterThan(Date.now());
    expect((await api("/schedules/paused", { method: "DELETE" })).status).toBe(204);
  });

  it.each([
    [{ cron: "61 * * * *" }, "cron"],
    [{ cron: "0 0 31 2 *" }, "cron"],
    [{ cron: "* * * * * *" }, "cron"],
    [{ cron: "H * * * *" }, "cron"],
    [{ cron: "nonsense" }, "cron"],
    [{ cron: "0 9 * * *", timeZone: "Mars/Base" }, "timeZone"],
    [{ cron: "0 9 * * *", timeZone: "+02:00" }, "timeZone"],
    [{ cron: "0 9 * * *", every: "1h" }, "cron"],
    [{}, "cron"],
    [{ every: "1s" }, "every"],
    [{ every: "often" }, "every"],
    [{ every: "1h", timeZone: "UTC" }, "timeZone"],
  ])("is refused where it can't be: %j", async (timing, where) => {
    const { status, body } = await put("bad", timing);
    expect(status).toBe(400);
    expect(body).toMatchObject({ code: "INVALID_SCHEDULE", errors: [{ where }] });
    expect(await list()).toEqual([]);
  });

  it("is refused where its message could not be sent", async () => {
    const code = async (more: object) =>
      (await put("bad", { every: "1h", message: said("bad", more) })).body.code;
    expect(await code({ agent: "stranger" })).toBe("UNKNOWN_AGENT");
    expect(await code({ channel: "unrouted" })).toBe("NO_ROUTE");
    expect(await code({ text: "x".repeat(2_000) })).toBe("MESSAGE_TOO_LARGE");
    expect(await code({ attachments: [] })).toBe("INVALID_REQUEST");
  });

  it("sends its message when it is due, under its id and that time, and is due again", async () => {
    await put("tick", { every: "1h", message: said("tick", { metadata: { a: 1 } }) });
    const { job, dueMs } = await nextJob("tick");
    await job.promote();
    const [first] = await until(
      () => mailbox("tick"),
      (messages) => messages.length === 1,
    );
    expect(first).toMatchObject({
      id: occurrence("tick", dueMs),
      text: "in tick",
      kind: "task",
      metadata: { a: 1 },
    });
    const next = await nextJob("tick");
    expect(next.dueMs).toBe(dueMs + 3_600_000);
    expect(await next.job.getState()).toBe("delayed");

    // What was removed only from the book, by whoever died then, is over when it is due.
    await new ScheduleBook(stack.worker.redis).remove("acme", "tick");
    await next.job.promote();
    await until(
      () => next.job.getState(),
      (state) => state === "completed",
    );
    expect(await mailbox("tick")).toHaveLength(1);
    expect(await inbound.getJobSchedulersCount()).toBe(0);
  });

  it("is sent once for all times that were missed while no dispatcher ran", async () => {
    expect(await running.process.stop()).toBe(0);
    const everyMs = 1_000;
    await new ScheduleBook(stack.worker.redis).put("acme", {
      ...{ id: "missed", timing: { everyMs }, createdAt: new Date().toISOString() },
      message: { ...said("missed"), sender: { id: "schedule" }, kind: "task" },
    });
    await inbound.upsertJobScheduler(
      "acme/missed",
      { every: everyMs, startDate: Date.now() + everyMs },
      { name: "schedule", data: { schedule: { tenant: "acme", id: "missed" } } },
    );
    const { dueMs } = await nextJob("missed");
    await until(
      async () => Date.now(),
      (now) => now > dueMs + 3 * everyMs,
    );
    const startedMs = Date.now();
    running = await stack.dispatcher();
    const sent = await until(
      () => mailbox("missed"),
      (messages) => messages.length >= 3,
    );
    const dueTimes = Array.from({ length: 100 }, (_, index) => dueMs + index * everyMs);
    const times = sent.map(({ id }) => dueTimes.find((time) => occurrence("missed", time) === id));
    expect(times[0]).toBe(dueMs);
    expect(times[1]).toBeGreaterThanOrEqual(startedMs);
    expect(times[2]).toBe((times[1] as number) + everyMs);
    expect((await api("/schedules/missed", { method: "DELETE" })).status).toBe(204);
  });

  it("goes on when its job was taken out of the queue", async () => {
    await put("kept", { cron: "0 9 * * *" });
    await inbound.obliterate({ force: true });
    expect((await list()).map(({ nextAt }) => nextAt)).toEqual([undefined]);
    expect(await running.process.stop()).toBe(0);
    running = await stack.dispatcher();
    const [kept] = await until(list, ([schedule]) => schedule?.nextAt !== undefined);
    expect(Date.parse(kept?.nextAt as string)).toBeGreaterThan(Date.now());
    await api("/schedules/kept", { method: "DELETE" });
  });

  it("is its tenant's, who may have so many", async () => {
    await put("own", { every: "1h" });
    expect((await api("/schedules", { key: keys.other })).body.schedules).toEqual([]);
    expect((await api("/schedules/own", { method: "DELETE", key: keys.other })).status).toBe(404);
    for (const key of [keys.reader, keys.sender]) {
      expect((await put("x", { every: "1h" }, { key })).status).toBe(403);
      expect((await api("/schedules/own", { method: "DELETE", key })).status).toBe(403);
    }
    const book = new ScheduleBook(stack.worker.redis);
    const [own] = await book.list("acme");
    if (own === undefined) throw new Error("it is gone");
    for (let index = 1; index < SCHEDULES_MAX; index++) await book.put("acme", { ...own, id: `s${index}` });
    expect((await put("one-more", { every: "1h" })).body).toMatchObject({
      ...{ status: 409, code: "TOO_MANY_SCHEDULES" },
    });
    expect((await put("own", { every: "3h" })).status).toBe(200);
    await stack.worker.redis.del("longshore:{tenant:acme}:schedules");
  });

  it("is served by the command line", async () => {
    const environment = { ...process.env, LONGSHORE_URL: running.url, LONGSHORE_KEY: keys.acme };
    const cli = (...args: string[]) => longshore(args, { environment });
    const later = new Date(Date.now() + 3_600_000).toISOString();
    expect((await cli("schedules", "add", "cli", "good night", "--at", later)).stdout).toContain(later);
    expect((await cli("schedules", "ls")).stdout).toMatch(/^cli {2}once {2}next 20.*good night\n$/);
    const added = await cli("schedules", "add", "cli", "good morning", "--cron", "0 9 * * 1-5");
    expect(added).toMatchObject({ status: 0, stdout: expect.stringMatching(/^cli is due at 20/) });
    expect((await cli("schedules", "ls")).stdout).toMatch(
      /^cli {2}0 9 \* \* 1-5 \(Asia\/Tokyo\) {2}next 20.*good morning\n$/,
    );
    expect((await cli("schedules", "add", "bad", "x", "--cron", "99 * * * *")).stderr).toContain(
      "INVALID_SCHEDULE",
    );
    expect(JSON.parse((await cli("--json", "schedules", "rm", "cli")).stdout)).toEqual({ removed: "cli" });
    expect(JSON.parse((await cli("--json", "schedules", "ls")).stdout)).toEqual([]);
  });
});

describe("a schedule for once", () => {
  const soon = () => new Date(Date.now() + 1_500).toISOString();

  it("is sent at its time, and is over", async () => {
    const at = soon();
    const made = await put("once", { at });
    expect([made.status, made.body]).toMatchObject([201, { at, nextAt: at }]);
    expect((await list()).find(({ id }) => id === "once")).toMatchObject({ nextAt: at });
    const [message] = await until(
      () => mailbox("once"),
      (waiting) => waiting.length === 1,
    );
    expect(message?.id).toBe(occurrence("once", Date.parse(at)));
    await until(list, (schedules) => !schedules.some(({ id }) => id === "once"));
  });

  it("can be set to another time, to a cron, and be removed", async () => {
    const [first, second] = ["2027-01-01T00:00:00.000Z", "2027-02-01T00:00:00.000Z"].map((at) =>
      at.replace("2027", String(new Date().getUTCFullYear() + 1)),
    );
    const jobOf = (at = "") => inbound.getJob(`once/acme/moved/${Date.parse(at)}`);
    for (const at of [first, second]) await put("moved", { at });
    expect([await jobOf(first), (await jobOf(second))?.id]).toEqual([undefined, expect.any(String)]);
    await put("moved", { cron: "0 9 * * *" });
    expect(await jobOf(second)).toBeUndefined();
    await put("moved", { at: first });
    expect(await inbound.getJobScheduler("acme/moved")).toBeUndefined();
    expect((await api("/schedules/moved", { method: "DELETE" })).status).toBe(204);
    expect(await jobOf(first)).toBeUndefined();
  });

  it("is over when whoever sent it died before the book knew, and when it was left out", async () => {
    const at = soon();
    await put("left", { at });
    const schedule = (await new ScheduleBook(stack.worker.redis).find("acme", "left")) as Schedule;
    await until(list, (schedules) => !schedules.some(({ id }) => id === "left"));
    const book = new ScheduleBook(stack.worker.redis);
    await book.put("acme", schedule);
    const unused = (): never => {
      throw new Error("no configuration is needed");
    };
    const schedules = new Schedules({ book, inbound, clock: systemClock, configuration: unused });
    // A keeper that read the book before the same id was set to another time takes nothing of that.
    const later = { ...schedule, timing: { at: new Date(Date.now() + 86_400_000).toISOString() } };
    await book.put("acme", later);
    expect(await schedules.ensure("acme", schedule)).toBe(false);
    expect(await book.find("acme", "left")).toEqual(later);
    await book.put("acme", schedule);
    expect(await schedules.ensure("acme", schedule)).toBe(false);
    expect(await book.find("acme", "left")).toBeUndefined();
    expect(await mailbox("left")).toHaveLength(1);
  });

  it.each(["tomorrow", "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2027-01-01T00:00:00"])(
    "can't be at %s",
    async (at) => {
      expect((await put("never", { at })).body).toMatchObject({ code: "INVALID_SCHEDULE" });
    },
  );
});
