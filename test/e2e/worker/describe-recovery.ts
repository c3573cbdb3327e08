import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import type { Api } from "../../support/api.ts";
import type { AppProcess } from "../../support/app-process.ts";
import { Fleet, type FleetOptions, required } from "../../support/fleet.ts";
import { type Hold, HoldingProxy } from "../../support/holding-proxy.ts";

/** Counts its turns in the session directory, and leaves something too large to travel in a commit record. */
const COUNT =
  "n=$(($(cat counter 2>/dev/null || echo 0) + 1)); echo $n > counter; head -c 300000 /dev/urandom > noise; echo turn $n";

interface Setting extends AsyncDisposable {
  readonly fleet: Fleet;
  readonly api: Api;
  readonly redis: HoldingProxy;
  readonly store: HoldingProxy;
  /** The worker that will die; it reaches Redis and the store by way of the proxies. */
  readonly victim: AppProcess;
  /** Starts the worker that takes over: another host, as far as the fleet can tell, with nothing cached. */
  startHeir(): Promise<AppProcess>;
}

async function set(options: FleetOptions): Promise<Setting> {
  const fleet = await Fleet.start({ store: "s3", ...options });
  const redis = await HoldingProxy.start(fleet.redis.url);
  const store = await HoldingProxy.start(required("S3_ENDPOINT"));
  const { api } = await fleet.startDispatcher();
  const victim = await fleet.startWorker({
    REDIS_URL: redis.url(fleet.redis.url),
    S3_ENDPOINT: store.url(required("S3_ENDPOINT")),
  });
  return {
    fleet,
    api,
    redis,
    store,
    victim,
    startHeir: () => fleet.startWorker({ LONGSHORE_RUN_DIR: join(fleet.directory, "heir") }),
    async [Symbol.asyncDispose]() {
      await fleet[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

interface Generation {
  readonly generation: number;
  readonly ends: readonly { readonly messageId: string }[];
}

const publishing = ({ bytes }: { readonly bytes: Buffer }) =>
  bytes.includes(":delivered") && bytes.includes(":mailbox");
const sends =
  (method: string, path: string) => (traffic: { readonly from: string; readonly bytes: Buffer }) =>
    traffic.from === "client" && traffic.bytes.includes(`${method} /`) && traffic.bytes.includes(path);

/** Where the victim dies while it serves the second message. */
const phases: readonly (readonly [name: string, hold: (setting: Setting) => Hold])[] = [
  ["hydrate", ({ store }) => store.hold(sends("GET", "/log/"))],
  ["mirror", ({ store }) => store.hold(sends("PUT", "/pack/"))],
  ["commit, before it", ({ store }) => store.hold(sends("PUT", "/log/"))],
  ["commit, its answer lost", ({ store }) => store.holdAnswer(sends("PUT", "/log/"))],
  ["between commit and publication", ({ redis }) => redis.hold(publishing)],
  ["between publication and the job's end", ({ redis }) => redis.holdAnswer(publishing)],
];

/** The suite for one runtime; a file for each, so that they run side by side. */
export function describeRecovery(runtime: "bwrap" | "docker"): void {
  describe(`a worker killed on ${runtime}`, () => {
    let setting: Setting;
    afterEach(() => setting[Symbol.asyncDispose]());

    /** After the kill: the message is answered once, by another worker, from what was committed (I1 to I6). */
    async function expectRecovery(second: {
      readonly messageId: string;
      readonly sessionId: string;
    }): Promise<void> {
      const { api, victim } = setting;
      await victim.kill();
      await setting.startHeir();
      const again = await api.ask("c", "2", "this text does not matter: the id is known");
      expect(again).toMatchObject({ messageId: second.messageId, state: "answered", duplicate: true });
      expect(again.replies?.map(({ text }) => text.trim())).toEqual(["turn 2"]);
      const third = await api.ask("c", "3", `$ ${COUNT}`);
      expect(third.replies?.map(({ text }) => text.trim())).toEqual(["turn 3"]);
      expect(await api.file(second.sessionId, "workspace/counter")).toBe("3\n");

      const { generations } = await api.json<{ generations: Generation[] }>(
        "GET",
        `/v1/sessions/${second.sessionId}/generations`,
      );
      const numbers = generations.map(({ generation }) => generation).sort((a, b) => a - b);
      expect(numbers).toEqual(numbers.map((_, index) => index + 1));
      const ended = generations.flatMap(({ ends }) => ends.map(({ messageId }) => messageId));
      expect(new Set(ended).size).toBe(ended.length);
      expect(ended).toHaveLength(3);
    }

    it.each(phases)("in phase: %s", async (_, holdAt) => {
      setting = await set({ runtime, agent: { linger: "0s" } });
      const { api, victim } = setting;
      const first = await api.ask("c", "1", `$ ${COUNT}`);
      expect(first.replies?.map(({ text }) => text.trim())).toEqual(["turn 1"]);
      // Released: a message that came sooner would be served by the same activation, without hydration.
      await victim.line(({ msg, state }) => msg === "activation" && state === "ending");
      const hold = holdAt(setting);
      const second = await api.send("c", "2", `$ ${COUNT}`);
      await hold.reached;
      await expectRecovery(second);
    });

    it("in phase: prompt", async () => {
      setting = await set({ runtime, agent: { linger: "0s" } });
      const { api, victim } = setting;
      await api.ask("c", "1", `$ ${COUNT}`);
      const seen = victim.lines.length;
      const second = await api.send("c", "2", `$ ${COUNT}; sleep 2`);
      await victim.line(({ msg }) => msg === "prompt sent", seen);
      await expectRecovery(second);
    });

    it("in phase: linger, and nothing of it is left on the host", async () => {
      setting = await set({ runtime, agent: { linger: "60s" } });
      const { api, victim, fleet } = setting;
      await api.ask("c", "1", `$ ${COUNT}`);
      await victim.kill();
      // Of the same host this time: its reaper finds what the dead one left.
      const heir = await fleet.startWorker();
      const second = await api.ask("c", "2", `$ ${COUNT}; sleep 2`);
      expect(second.replies?.map(({ text }) => text.trim())).toEqual(["turn 2"]);
      const reaped = await heir.line(({ msg }) => msg === "removed what dead activations left");
      expect(reaped).toMatchObject({ slots: 1, workers: 1 });
    });

    it("stopped past its lease and continued: fences itself, and its turn counts for nothing", async () => {
      setting = await set({ runtime });
      const { api, victim } = setting;
      await api.ask("c", "1", `$ ${COUNT}`);
      const seen = victim.lines.length;
      const second = await api.send("c", "2", `$ ${COUNT}; sleep 1`);
      await victim.line(({ msg }) => msg === "prompt sent", seen);
      victim.signal("SIGSTOP");
      const heir = await setting.startHeir();
      await heir.line(({ msg }) => msg === "turn answered");
      victim.signal("SIGCONT");
      await victim.line(({ msg }) => msg === "lost the session; what was not committed is dropped");
      const third = await api.ask("c", "3", `$ ${COUNT}`);
      expect(third.replies?.map(({ text }) => text.trim())).toEqual(["turn 3"]);
      expect((await api.message(second.messageId)).replies?.map(({ text }) => text.trim())).toEqual([
        "turn 2",
      ]);
      const answered = victim.lines
        .filter(({ msg }) => msg === "turn answered")
        .flatMap((line) => line.messageIds);
      expect(answered).not.toContain(second.messageId);
    });
  });
}
