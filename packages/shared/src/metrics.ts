import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** Seconds; from a lingering turn's milliseconds to the longest turns. */
const PHASE_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];

export const turnPhases = [
  "queue",
  "lease",
  "hydrate",
  "sandbox",
  "prompt",
  "mirror",
  "commit",
  "deliver",
] as const;
export type TurnPhase = (typeof turnPhases)[number];

/**
 * The metrics of a process. Names and labels are a public interface; labels are bounded: never the id of a
 * session or message.
 */
export class Metrics {
  readonly registry = new Registry();

  readonly messages = new Counter({
    name: "longshore_messages_total",
    help: "Messages by outcome: accepted, duplicate, refused (dispatcher); answered, dead, cancelled (worker)",
    labelNames: ["tenant", "agent", "outcome"] as const,
    registers: [this.registry],
  });
  readonly refusals = new Counter({
    name: "longshore_refusals_total",
    help: "Messages that a dispatcher refused, by the error's code, such as RATE_LIMITED, MAILBOX_FULL or INVALID_MESSAGE",
    labelNames: ["tenant", "code"] as const,
    registers: [this.registry],
  });
  readonly turns = new Counter({
    name: "longshore_turns_total",
    help: "Turns by outcome: answered, cancelled, failed, dead, handed_back, fenced",
    labelNames: ["agent", "outcome"] as const,
    registers: [this.registry],
  });
  readonly turnPhaseSeconds = new Histogram({
    name: "longshore_turn_phase_seconds",
    help: "How long each phase of a turn took",
    labelNames: ["agent", "phase"] as const,
    buckets: PHASE_BUCKETS,
    registers: [this.registry],
  });
  readonly tokens = new Counter({
    name: "longshore_tokens_total",
    help: "Tokens that agents said they used, by kind: input, output, thought, cachedRead, cachedWrite; of failed turns too, where the agent could still say it",
    labelNames: ["tenant", "agent", "kind"] as const,
    registers: [this.registry],
  });
  readonly mailboxMessages = new Gauge({
    name: "longshore_mailbox_messages",
    help: "Messages accepted and not ended, as of the last sweep",
    labelNames: ["tenant"] as const,
    registers: [this.registry],
  });
  readonly oldestMessageSeconds = new Gauge({
    name: "longshore_oldest_message_seconds",
    help: "Age of the oldest message that is not ended, as of the last sweep",
    labelNames: ["tenant"] as const,
    registers: [this.registry],
  });
  readonly runnableSessions = new Gauge({
    name: "longshore_runnable_sessions",
    help: "Sessions with a waking message and no live lease that wait for a worker, not for a retry or for room within a limit, as of the last sweep: what to scale workers on",
    registers: [this.registry],
  });
  readonly activations = new Gauge({
    name: "longshore_activations",
    help: "Activations of this worker by state",
    labelNames: ["state"] as const,
    registers: [this.registry],
  });
  readonly warmSandboxes = new Gauge({
    name: "longshore_warm_sandboxes",
    help: "Sandboxes of this worker that were started ahead and wait for a session",
    labelNames: ["agent"] as const,
    registers: [this.registry],
  });
  readonly sandboxes = new Counter({
    name: "longshore_sandboxes_total",
    help: "Sandboxes that activations got, by start: warm (started ahead), cold",
    labelNames: ["agent", "start"] as const,
    registers: [this.registry],
  });
  readonly objectStoreRequests = new Counter({
    name: "longshore_object_store_requests_total",
    help: "Requests to the object store",
    labelNames: ["operation", "outcome"] as const,
    registers: [this.registry],
  });
  readonly objectStoreBytes = new Counter({
    name: "longshore_object_store_bytes_total",
    help: "Bytes of objects sent to (up) and received from (down) the object store",
    labelNames: ["direction"] as const,
    registers: [this.registry],
  });
  readonly chunkCacheBytes = new Counter({
    name: "longshore_chunk_cache_bytes_total",
    help: "Bytes by what became of them in the chunk cache: hit, miss, stored, dropped, evicted, bad",
    labelNames: ["event"] as const,
    registers: [this.registry],
  });
  readonly deadLetters = new Counter({
    name: "longshore_dead_letters_total",
    help: "Messages given up on, by the code of the reason",
    labelNames: ["reason"] as const,
    registers: [this.registry],
  });
  readonly deliveries = new Counter({
    name: "longshore_deliveries_total",
    help: "Attempts to deliver a reply by outcome: delivered, failed (tried again), dead (given up)",
    labelNames: ["channel", "outcome"] as const,
    registers: [this.registry],
  });
  readonly fenced = new Counter({
    name: "longshore_fenced_total",
    help: "Activations that found that they had lost their session",
    registers: [this.registry],
  });
  readonly egressRequests = new Counter({
    name: "longshore_egress_requests_total",
    help: "Requests of agents to leave their sandbox, by what was decided",
    labelNames: ["decision"] as const,
    registers: [this.registry],
  });
  readonly orphansReaped = new Counter({
    name: "longshore_orphans_reaped_total",
    help: "Sandboxes, slots and other leftovers of dead activations that were removed",
    registers: [this.registry],
  });

  readonly collections = new Counter({
    name: "longshore_collections_total",
    help: "Sessions whose garbage was collected, by outcome: collected, failed",
    labelNames: ["outcome"] as const,
    registers: [this.registry],
  });
  readonly collectedObjects = new Counter({
    name: "longshore_collected_objects_total",
    help: "Objects that garbage collection deleted from the object store",
    registers: [this.registry],
  });
  readonly collectedBytes = new Counter({
    name: "longshore_collected_bytes_total",
    help: "Bytes of the objects that garbage collection deleted",
    registers: [this.registry],
  });

  constructor() {
    // Present from the start, so that a rate over them is defined.
    for (const event of ["hit", "miss", "stored", "dropped", "evicted", "bad"])
      this.chunkCacheBytes.inc({ event }, 0);
    for (const outcome of ["collected", "failed"]) this.collections.inc({ outcome }, 0);
    this.fenced.inc(0);
    this.orphansReaped.inc(0);
    this.runnableSessions.set(0);
  }
}
