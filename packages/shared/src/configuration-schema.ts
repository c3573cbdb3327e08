import { z } from "zod";
import { accessProblems, accessSchema, layeredAccess } from "./access-policy.ts";
import { durabilities } from "./durability.ts";
import { egressSchema } from "./egress-schema.ts";
import {
  agentMountsSchema,
  agentSkillsSchema,
  agentVolumesSchema,
  allowedMountsSchema,
  EXTERNAL,
  overlappingTarget,
} from "./mount-schema.ts";
import { identifierSchema, nameSchema } from "./names.ts";
import { looksSecret } from "./secret-shape.ts";
import { sessionModes } from "./session-id.ts";
import { timeZoneSchema } from "./time-zone.ts";
import { duration, size } from "./units.ts";

export const scopes = ["send", "read", "operate"] as const;
export type Scope = (typeof scopes)[number];

const keySchema = z.strictObject({
  id: nameSchema.describe("Named in logs instead of the key."),
  hash: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/, { error: '"sha256:" and 64 hexadecimal digits' })
    .describe("SHA-256 of the key: the key itself is nowhere in the configuration."),
  scopes: z
    .array(z.enum(scopes))
    .min(1)
    .describe("`send` messages, `read` sessions and files, `operate`: dashboards and changes."),
});

const tenantSchema = z.strictObject({
  keys: z.array(keySchema).default([]).describe("API keys of the tenant."),
  limits: z
    .strictObject({
      mailbox: z
        .int()
        .min(1)
        .max(1_000_000)
        .default(1_000)
        .describe("Messages that may wait in one session; beyond it a message is refused with 429."),
      runningTurns: z
        .int()
        .min(1)
        .max(1_000_000)
        .default(50)
        .describe(
          "Turns that run at once, over all workers; beyond it a session waits for one of them to end.",
        ),
      messagesPerMinute: z
        .int()
        .min(1)
        .max(10_000_000)
        .default(600)
        .describe(
          "Messages accepted in any 60 seconds; beyond it one over HTTP is refused with 429, and a job on `inbound` waits.",
        ),
      storedBytes: size({ min: "1MiB", max: "8191TiB" })
        .prefault("50GiB")
        .describe(
          "What the tenant's sessions and volumes may take in the object store, with what is kept of their past; beyond it messages and uploads are refused with 507.",
        ),
    })
    .prefault({}),
});

const environmentValueSchema = z.union(
  [
    z.string(),
    z.strictObject({
      value: z.string(),
      visible: z.literal(true).describe("Says that the operator knows that the agent sees this secret."),
    }),
  ],
  { error: "text, or { value: text, visible: true }" },
);

const agentLimitsSchema = z.strictObject({
  memory: size({ min: "16MiB", max: "1TiB" })
    .prefault("1GiB")
    .describe("Memory of all processes and of `/tmp` together."),
  cpus: z
    .number()
    .min(0.01)
    .max(1024)
    .default(1)
    .describe("Processor time, in cores, counted over half a second."),
  pids: z.int().min(8).max(100_000).default(256).describe("Processes and threads."),
  disk: size({ min: "1MiB", max: "64TiB" })
    .prefault("5GiB")
    .describe("Bytes of the session directory; a turn that exceeds it fails."),
  files: z
    .int()
    .min(16)
    .max(100_000_000)
    .default(200_000)
    .describe("Files and directories of the session directory."),
  turn: duration({ min: "1s", max: "24h" }).prefault("30m").describe("The longest a turn may take."),
  idle: duration({ min: "1s", max: "24h" })
    .prefault("5m")
    .describe("The longest a turn may go on without an update from the agent."),
  output: size({ min: "1KiB", max: "256MiB" })
    .prefault("10MiB")
    .describe("The longest line of the agent's protocol, and the longest reply."),
  message: size({ min: "1B", max: "1MiB" }).prefault("256KiB").describe("Bytes of a message's text."),
  attachments: z.int().min(0).max(100).default(20).describe("Attachments of a message."),
  attachmentBytes: size({ min: "0B", max: "1GiB" })
    .prefault("100MiB")
    .describe("Bytes of all attachments of a message together."),
});

const agentSchema = z
  .strictObject({
    tenant: nameSchema.describe("Whose agent it is: nobody else can send to it."),
    contract: z
      .enum(["acp", "exec", "mailbox-db"])
      .default("acp")
      .describe(
        "How the worker speaks to it. `acp`: the Agent Client Protocol on its standard input and output; `exec`: a process for each turn, with the prompt as JSON on its standard input and the reply on its standard output; `mailbox-db`: two SQLite databases, as NanoClaw's agents have them. See agents.md.",
      ),
    image: z.string().min(1).optional().describe("Docker: the image."),
    command: z
      .array(z.string().min(1))
      .min(1)
      .optional()
      .describe("The agent's program and arguments. Default: the image's own."),
    runtime: z
      .enum(["docker", "bwrap", "auto"])
      .default("auto")
      .describe("`auto`: docker where an engine answers, else bwrap."),
    ociRuntime: z
      .string()
      .min(1)
      .optional()
      .describe("Docker: `runc`, `runsc`, or any that the engine knows."),
    rootfs: z
      .string()
      .min(1)
      .optional()
      .describe("bwrap: `host` (read-only system paths of the host), or the directory of an unpacked image."),
    env: z
      .record(
        z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "a variable's name" }),
        environmentValueSchema,
      )
      .superRefine((variables, context) => {
        for (const [name, value] of Object.entries(variables)) {
          if (typeof value !== "string" || !looksSecret(name, value)) continue;
          const message =
            "{ value: ..., visible: true }: it seems to be a secret, and the agent would see it";
          context.addIssue({ code: "custom", path: [name], message });
        }
      })
      .default({})
      .describe(
        "Environment of the agent. A secret (from a variable or a file, or what seems to be one by its name and form) has to be written as `{ value, visible: true }`.",
      ),
    limits: agentLimitsSchema.prefault({}),
    retry: z
      .strictObject({
        attempts: z.int().min(1).max(100).default(5),
        backoff: duration({ min: "1ms", max: "1h" }).prefault("5s"),
        longest: duration({ min: "1ms", max: "24h" }).prefault("5m"),
      })
      .prefault({})
      .describe(
        "Failed turns: each retry waits `backoff` times two to the number of failures, at most `longest`.",
      ),
    timeZone: timeZoneSchema
      .default("UTC")
      .describe(
        "Time zone of the days of `perUser`, and of schedules that name none, such as `Europe/Berlin`; the agent has it as `TZ`.",
      ),
    busy: z
      .enum(["enqueue", "coalesce", "steer", "interrupt", "rollback", "reject"])
      .default("enqueue")
      .describe(
        "What becomes of a message that comes while a turn runs: see conversations.md. `steer` is as `enqueue` so far.",
      ),
    coalesce: z
      .strictObject({
        quiet: duration({ min: "0s", max: "1m" })
          .prefault("500ms")
          .describe("The turn begins when no other message came for so long,"),
        longest: duration({ min: "0s", max: "10m" })
          .prefault("5s")
          .describe("or when the first of them waits for so long,"),
        messages: z.int().min(1).max(1_000).default(20).describe("or when so many wait."),
      })
      .prefault({})
      .describe("With `busy: coalesce`: messages that wait become one turn."),
    context: z
      .strictObject({
        messages: z.int().min(1).max(1_000).default(100).describe("So many of them wait at most."),
        keep: duration({ min: "1m", max: "7d" }).prefault("24h").describe("So long do they wait at most."),
      })
      .prefault({})
      .describe(
        "Messages with `wake: false`, which wait for the next turn of their session: beyond these bounds the oldest are dropped.",
      ),
    perUser: z
      .strictObject({
        running: z.int().min(1).max(100_000).optional().describe("Turns of a user that run at once."),
        perDay: z
          .int()
          .min(1)
          .max(100_000)
          .optional()
          .describe("Messages of a user on a day of the agent's `timeZone`, each counted once."),
        wait: duration({ min: "0s", max: "30d" })
          .prefault("30m")
          .describe(
            "How long a message beyond them waits, from when it was accepted; then it is a dead letter.",
          ),
      })
      .optional()
      .describe("Quotas of each user: a sender as its channel names it."),
    linger: duration({ min: "0s", max: "24h" })
      .prefault("60s")
      .describe("How long an activation waits for the next message after a turn."),
    longest: duration({ min: "1m", max: "7d" })
      .prefault("24h")
      .describe("The longest an activation may live."),
    warm: z
      .int()
      .min(0)
      .max(100)
      .default(0)
      .describe("Sandboxes that each worker starts ahead of their sessions and holds ready: see sandbox.md."),
    reply: z
      .enum(["last", "all"])
      .default("last")
      .describe("`last`: the text after the last tool call is the reply; `all`: all of the turn's text."),
    turnLog: z
      .enum(["errors", "all", "off"])
      .default("errors")
      .describe(
        "Which attempts at turns leave a log in the object store, for `longshore sessions turn-logs`: those that failed, or all.",
      ),
    permissions: z
      .enum(["allow", "deny", "ask"])
      .default("allow")
      .describe(
        "The answer to the agent's requests for permission. `ask`: whoever sent the turn's messages is asked, and has five minutes.",
      ),
    egress: egressSchema
      .prefault({})
      .describe("What it may reach beyond its sandbox; by default nothing. See docs/sandbox.md."),
    home: z
      .string()
      .min(1)
      .optional()
      .describe(
        "A directory of the worker's host, absolute or from the configuration file's, whose files a new session has in its `HOME`. From then on they are the session's own.",
      ),
    mounts: agentMountsSchema.describe(
      "Directories of the worker's host that it sees, beside its own: see sandbox.md.",
    ),
    mountsByMessage: z
      .boolean()
      .default(false)
      .describe(
        "Whether a message may name more of them (`mounts`), for its own turn: whoever may send it messages decides then, within what the top level's `mounts` allow.",
      ),
    volumes: agentVolumesSchema.describe(
      "Directories of the object store that it sees, and that outlive its sessions: see sandbox.md.",
    ),
    access: accessSchema.describe(
      'What the agent may do where, such as `{ "/opt/keys/": "---", "/session/inbox/": "r--" }`, over what the top level\'s `access` says: see sandbox.md.',
    ),
    skills: agentSkillsSchema.describe(
      "Files of the object store below `skills/<id>/<version>/` that it is shown, read-only: see agents.md.",
    ),
    attachmentOrigins: z
      .array(
        z.url({ protocol: /^https?$/ }).refine((url) => URL.parse(url)?.origin === url, {
          error: "an origin, such as https://files.example.org",
        }),
      )
      .max(100)
      .default([])
      .describe(
        "Servers from which the dispatchers get attachments that a message names by `url`, and to which those may redirect, such as `https://files.slack.com`. Whoever may send to the agent makes the dispatchers ask them.",
      ),
    exclude: z
      .array(z.string().min(1))
      .max(100)
      .default([])
      .describe("Patterns of paths (from the session directory) that are left out of the mirror."),
    checkpoint: duration({ min: "0s", max: "24h" })
      .prefault("60s")
      .describe(
        "How often what a running turn changed is stored, so that little is lost of it to look at. `0s`: not before the turn ends.",
      ),
    publish: z
      .array(z.string().min(1))
      .max(100)
      .default([])
      .describe(
        "Patterns of paths whose files are kept, as they were committed last, as plain objects below `published/<session>/` of the tenant.",
      ),
    retention: z
      .strictObject({
        generations: z
          .int()
          .min(1)
          .max(1_000_000)
          .default(50)
          .describe("So many of the newest generations of a session are kept, however old."),
        days: z
          .number()
          .min(0)
          .max(36_500)
          .default(30)
          .describe("A generation younger than so many days is kept, however many there are."),
      })
      .prefault({})
      .describe("Which generations garbage collection leaves; the newest always."),
  })
  .refine((agent) => agent.contract === "acp" || agent.warm === 0, {
    path: ["warm"],
    error: "0, since the contract is not acp: each turn has a sandbox of its own",
  })
  .superRefine(({ mounts, volumes, skills }, context) => {
    const target = overlappingTarget([...mounts, ...volumes, ...skills].map((seen) => seen.target));
    if (target === undefined) return;
    const message = `targets of their own: another one is at, in or around ${target}`;
    const lists = { mounts, volumes, skills };
    const path = Object.entries(lists).find(([, list]) => list.some((seen) => seen.target === target));
    context.addIssue({ code: "custom", path: [path?.[0] ?? "mounts"], message });
  })
  .refine(({ volumes }) => new Set(volumes.map(({ name }) => name)).size === volumes.length, {
    path: ["volumes"],
    error: "names of their own",
  })
  .refine((agent) => agent.mounts.length + agent.volumes.length === 0 || agent.warm === 0, {
    path: ["warm"],
    error: "0, since it has mounts or volumes: they are made when a session's sandbox starts",
  })
  .refine((agent) => agent.runtime === "bwrap" || agent.image !== undefined, {
    path: ["image"],
    error: "an image, since the runtime is docker or auto",
  })
  .refine(
    (agent) => agent.runtime === "docker" || (agent.rootfs !== undefined && agent.command !== undefined),
    {
      path: ["rootfs"],
      error: "rootfs and command, since the runtime is bwrap or auto",
    },
  );

/** Other conversations that a route's agent may write to. */
const DESTINATIONS_MAX = 100;
const placeSchema = { channel: nameSchema, conversation: identifierSchema(512) };
const PLACE_ALLOWED =
  'a channel and a conversation such as "slack:C0456", or channel, conversation and thread';

const routeSchema = z.strictObject({
  channel: nameSchema,
  conversation: z.string().min(1).optional().describe("Default: all conversations of the channel."),
  agent: nameSchema,
  session: z.enum(sessionModes).default("shared"),
  operator: z
    .boolean()
    .default(false)
    .describe(
      "Whether the agent sees and cancels the schedules of its whole tenant by its tools, not only those of its own session.",
    ),
  destinations: z
    .record(
      nameSchema,
      z.union(
        [
          z
            .string()
            .meta({ title: "`CHANNEL:CONVERSATION`" })
            .transform((text, context) => {
              const [, channel, conversation] = /^([^:]*):(.*)$/s.exec(text) ?? [];
              const place = z.object(placeSchema).safeParse({ channel, conversation });
              if (place.success) return place.data;
              context.addIssue({ code: "custom", message: PLACE_ALLOWED });
              return z.NEVER;
            }),
          z
            .strictObject({ ...placeSchema, thread: identifierSchema(512) })
            .describe("A thread of a conversation."),
        ],
        { error: PLACE_ALLOWED },
      ),
    )
    .refine((destinations) => Object.keys(destinations).length <= DESTINATIONS_MAX, {
      error: `at most ${DESTINATIONS_MAX}`,
    })
    .default({})
    .describe(
      "Other conversations that the agent may write to while it answers this one, by the name that it has for each; a group where it is a thread of one.",
    ),
});

const channelSchema = z.union(
  [
    z.strictObject({
      type: z
        .literal("http")
        .default("http")
        .describe("Replies go to whoever waits for or fetches them over HTTP."),
    }),
    z.strictObject({
      type: z.literal("webhook").describe("Replies are posted to `url`, signed with `secret`."),
      url: z.url({ protocol: /^https?$/ }),
      secret: z.string().min(16),
      timeout: duration({ min: "100ms", max: "5m" }).prefault("10s").describe("The longest a call may take."),
      unknownOutcome: z
        .enum(["idempotent", "resend", "hold"])
        .default("idempotent")
        .describe(
          "When nobody knows whether a call was taken (no answer, a cut connection): `idempotent` sends the reply again, and the receiver takes each `Idempotency-Key` once; `resend` sends it again to a receiver that does not look at keys; `hold` makes it a dead reply, for an operator to decide.",
        ),
      retry: z
        .strictObject({
          backoff: duration({ min: "1ms", max: "1h" }).prefault("1s"),
          longest: duration({ min: "1ms", max: "1h" }).prefault("1m"),
          giveUp: duration({ min: "1ms", max: "7d" }).prefault("15m"),
        })
        .prefault({})
        .describe(
          "Failed calls: each retry waits `backoff` times two to the number of failures, at most `longest`; `giveUp` after the first call the reply becomes a dead reply.",
        ),
    }),
  ],
  { error: 'type "http", or type "webhook" with url and secret' },
);

export const configurationSchema = z
  .strictObject({
    tenants: z.record(
      nameSchema.refine((name) => name !== "skills", {
        error: "not skills: the object store has them there",
      }),
      tenantSchema,
    ),
    operators: z
      .array(keySchema.extend({ scopes: keySchema.shape.scopes.prefault(["operate"]) }))
      .default([])
      .describe(
        "Keys of the fleet's operators, who belong to no tenant: queues and dashboards of the whole fleet.",
      ),
    agents: z.record(nameSchema, agentSchema),
    routes: z
      .array(routeSchema)
      .describe("The first that matches a message's channel, conversation and agent decides its session."),
    channels: z.record(nameSchema, channelSchema),
    access: accessSchema.describe(
      "What agents may do where, by path: see sandbox.md. For the same path an agent's own `access` is in force.",
    ),
    mounts: allowedMountsSchema.describe(
      "What the operator of the hosts lets agents see of them. Nothing else is mounted, whatever an agent's definition says.",
    ),
    durability: z
      .enum(durabilities)
      .default("local")
      .describe(
        "What an accepted message survives, beside a restart of Redis: `local`, nothing more (the host's loss of power takes up to a second); `fsync`, the loss of power; `replica`, the loss of the host. See docs/operations.md.",
      ),
    worker: z
      .strictObject({
        places: z.int().min(1).max(10_000).default(16).describe("Activations at once."),
        lease: duration({ min: "1s", max: "10m" })
          .prefault("15s")
          .describe("How long a worker may be silent before its sessions go to others."),
        drain: duration({ min: "0s", max: "24h" })
          .prefault("60s")
          .describe("How long running turns may go on after SIGTERM."),
        reaper: duration({ min: "1s", max: "1h" })
          .prefault("30s")
          .describe("How often leftovers of dead activations are looked for."),
        quantum: z
          .strictObject({
            turns: z.int().min(1).max(1_000_000).default(20),
            time: duration({ min: "1s", max: "24h" }).prefault("5m"),
          })
          .prefault({})
          .describe(
            "A session that was served without a rest for so many turns, or for so long, gives its place to one that waits for a place, and goes on in its turn.",
          ),
        chunkCache: size({ min: "0B", max: "64TiB" })
          .prefault("10GiB")
          .describe(
            "Disk that the workers of a host together use to keep what sessions were restored from, so that it need not be fetched again. `0B`: none.",
          ),
      })
      .prefault({}),
    dispatcher: z
      .strictObject({
        sweeper: duration({ min: "100ms", max: "1h" })
          .prefault("10s")
          .describe("How often lost wakes are looked for."),
        collect: duration({ min: "0s", max: "30d" })
          .prefault("24h")
          .describe(
            "How often one of the dispatchers removes generations beyond their retention, and objects that nothing needs any more. `0s`: only `longshore gc` does.",
          ),
        records: z
          .strictObject({
            keep: duration({ min: "1m", max: "30d" })
              .prefault("24h")
              .describe("How long the record of an ended message is kept, and its id known as a duplicate."),
            count: z
              .int()
              .min(1_000)
              .max(100_000_000)
              .default(100_000)
              .describe(
                "How many records of ended messages are kept at most, over all tenants: what bounds Redis' memory where many are answered. The oldest go first; a session's newest 100 messages are not answered twice nevertheless, but sent again they end a running turn, or are taken for the answer to a question, like new ones.",
              ),
          })
          .prefault({}),
        events: z
          .strictObject({
            keep: duration({ min: "1m", max: "30d" }).prefault("24h"),
            length: z
              .int()
              .min(10)
              .max(1_000_000)
              .default(1_000)
              .describe("Events of a session that are kept."),
          })
          .prefault({}),
      })
      .prefault({}),
  })
  .superRefine((configuration, context) => {
    const report = (path: (string | number)[], message: string) =>
      context.addIssue({ code: "custom", path, message });
    for (const [name, agent] of Object.entries(configuration.agents)) {
      const access = layeredAccess(configuration.access, agent.access);
      const targets = [...agent.mounts, ...agent.volumes, ...agent.skills].map(({ target }) => target);
      if (agent.mountsByMessage) targets.push(EXTERNAL);
      for (const { pattern, reason } of accessProblems(access, targets, agent.warm > 0)) {
        if (Object.hasOwn(agent.access, pattern)) report(["agents", name, "access", pattern], reason);
        else report(["access", pattern], `${reason} (for the agent ${name})`);
      }
      if (!Object.hasOwn(configuration.tenants, agent.tenant))
        report(
          ["agents", name, "tenant"],
          `one of the tenants (${Object.keys(configuration.tenants).join(", ")})`,
        );
    }
    configuration.routes.forEach((route, index) => {
      for (const [name, { channel }] of Object.entries(route.destinations)) {
        if (!Object.hasOwn(configuration.channels, channel))
          report(
            ["routes", index, "destinations", name],
            `one of the channels (${Object.keys(configuration.channels).join(", ")})`,
          );
      }
      if (!Object.hasOwn(configuration.agents, route.agent))
        report(
          ["routes", index, "agent"],
          `one of the agents (${Object.keys(configuration.agents).join(", ")})`,
        );
      if (!Object.hasOwn(configuration.channels, route.channel))
        report(
          ["routes", index, "channel"],
          `one of the channels (${Object.keys(configuration.channels).join(", ")})`,
        );
    });
    const owners = new Map<string, string>();
    const claim = (path: (string | number)[], { hash }: z.output<typeof keySchema>, owner: string) => {
      const other = owners.get(hash);
      if (other !== undefined) report([...path, "hash"], `a key of its own (${other} has it too)`);
      owners.set(hash, owner);
    };
    for (const [tenant, { keys }] of Object.entries(configuration.tenants)) {
      keys.forEach((key, index) => {
        claim(["tenants", tenant, "keys", index], key, `tenant ${tenant}`);
      });
    }
    configuration.operators.forEach((key, index) => {
      claim(["operators", index], key, "an operator");
    });
  })
  .transform((configuration) => ({
    ...configuration,
    agents: Object.fromEntries(
      Object.entries(configuration.agents).map(([name, agent]) => [
        name,
        { ...agent, access: layeredAccess(configuration.access, agent.access) },
      ]),
    ),
  }));

export type Configuration = z.output<typeof configurationSchema>;
export type KeyDefinition = z.output<typeof keySchema>;
export type AgentDefinition = Configuration["agents"][string];
export type ChannelDefinition = Configuration["channels"][string];
export type Route = Configuration["routes"][number];
