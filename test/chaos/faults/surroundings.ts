import { readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { engineAt } from "../../../infra/setup/provided-services.ts";
import type { Fault as WireFault } from "../../faults/fault-proxy.ts";
import { required } from "../../support/fleet.ts";
import { seesMounted } from "../../support/sees-mounted.ts";
import { meet, phaseNamed } from "../phases.ts";
import type { Seat } from "../seat.ts";
import type { Fault } from "./fault.ts";

/** How long a worker's store, or the receiver of replies, is bad, in ms. */
const BAD_MS = 3_000;
const MEET_LIMIT_MS = 6_000;
/** One request of so many goes wrong. */
const ONE_OF = 4;
const wireFaults: readonly WireFault[] = [
  "slow-down",
  "conflict",
  "reset",
  "reset-midway",
  "lost-answer",
  "repeat",
  "truncate",
  "corrupt",
  "denied",
];

/** Requests of a worker to the object store go wrong, each in its way. */
export const harmStore: Fault = async (fleet, number, random) => {
  const seat = fleet.workers[number % fleet.workers.length] as Seat;
  return await seat.alone(async () => {
    const over = fleet.begin("object store faults", seat.name);
    seat.store.rule = (method) => {
      if (random.integer(1, ONE_OF) !== 1) return undefined;
      const fault = random.pick(wireFaults);
      // An answer that only a conditional put may be given.
      return fault === "conflict" && method !== "PUT" ? "slow-down" : fault;
    };
    await delay(BAD_MS);
    seat.store.rule = () => undefined;
    over();
    return true;
  });
};

/** No worker gets the content of files, while all else of the object store can be read. */
export const refuseContent: Fault = async (fleet) => {
  const over = fleet.begin("content refused", "all");
  await Promise.all(
    fleet.workers.map((seat) =>
      seat.alone(async () => {
        seat.store.rule = (method, path) =>
          method === "GET" && path.includes("/pack/") ? "denied" : undefined;
        await delay(BAD_MS);
        seat.store.rule = () => undefined;
      }),
    ),
  );
  over();
  return true;
};

/** Whoever is called with replies refuses some, and cuts others off. */
export const harmReceiver: Fault = async (fleet, _number, random) => {
  const { receiver } = fleet;
  const over = fleet.begin("receiver fails", "receiver", ["receiver-failed"]);
  receiver.status = () => random.pick([200, 500, 503, 0]);
  await delay(BAD_MS);
  receiver.status = () => 200;
  over();
  return true;
};

/** The agents of all sessions on a worker are killed, just when one of them has got a prompt. */
export const killSandbox: Fault = async (fleet, number) => {
  const seat = fleet.workers[number % fleet.workers.length] as Seat;
  return await seat.alone(async () => {
    const workerId = String(seat.ready?.workerId);
    if ((await meet(seat, phaseNamed("prompting"), MEET_LIMIT_MS)) === undefined) return false;
    // Looked up only now: those that run a prompt must be among them. They may be new.
    const found = await sandboxesOf(workerId);
    const over = fleet.begin("sandboxes of a worker killed", seat.name);
    // One that has ended by itself just then is not there to be killed.
    await Promise.allSettled(found.map(async (kill) => await kill()));
    over();
    return found.length > 0;
  });
};

/** By the worker's slots, which they see as parts of their own root. */
async function sandboxesOf(workerId: string): Promise<(() => unknown)[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const processes = await Promise.all(
    pids.map(async (pid) => {
      const mounts = await readFile(`/proc/${pid}/mountinfo`, "utf8").catch(() => "");
      return seesMounted(mounts, `/workers/${workerId}/`) ? [() => process.kill(Number(pid), "SIGKILL")] : [];
    }),
  );
  const engine = engineAt(required("DOCKER_HOST"));
  const containers = await engine.listContainers({ filters: { label: [`longshore.worker=${workerId}`] } });
  return [
    ...processes.flat(),
    ...containers.map(
      ({ Id }) =>
        () =>
          engine.getContainer(Id).kill(),
    ),
  ];
}

/** SIGTERM, and a new process when it has ended: one step of a rolling update. */
export const rollWorker: Fault = (fleet, number) => roll(fleet, fleet.workers, number);
export const rollDispatcher: Fault = (fleet, number) => roll(fleet, fleet.dispatchers, number);

async function roll(fleet: Parameters<Fault>[0], seats: readonly Seat[], number: number): Promise<boolean> {
  const seat = seats[number % seats.length] as Seat;
  return await seat.alone(async () => {
    const effects = seat.app === "dispatcher" ? (["dispatcher-gone"] as const) : [];
    const over = fleet.begin(`${seat.app} replaced`, seat.name, effects);
    await seat.stop();
    await seat.start();
    over();
    return true;
  });
}
