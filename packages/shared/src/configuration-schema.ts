import { z } from "zod";
import { nameSchema } from "./names.ts";
import { sessionModes } from "./session-id.ts";
import { duration, size } from "./units.ts";

export const scopes = ["send", "read", "operate"] as const;
export type Scope = (typeof scopes)[number];

const keySchema = z.strictObject({
  /** Named in logs instead of the key. */
  id: nameSchema,
  /** SHA-256 of the key: the key itself is nowhere in the configuration. */
  hash: z.string().regex(/^sha256:[0-9a-f]{64}$/, { error: '"sha256:" and 64 hexadecimal digits' }),
  /** `send` messages, `read` sessions and files, `operate`: dashboards and changes. */
  scopes: z.array(z.enum(scopes)).min(1),
});

const tenantSchema = z.strictObject({
  keys: z.array(keySchema).default([]),
  limits: z
    .strictObject({
      /** Messages that may wait in one session; beyond it a message is refused with 429. */
      mailbox: z.int().min(1).max(1_000_000).default(1_000),
    })
    .prefault({}),
});

const environmentValueSchema = z.union(
  [
    z.string(),
    z.strictObject({
      value: z.string(),
      /** Says that the operator knows that the agent sees this secret. */
      visible: z.literal(true),
    }),
  ],
  { error: "text, or { value: text, visible: true }" },
);

const agentLimitsSchema = z.strictObject({
  memory: size({ min: "16MiB", max: "1TiB" }).prefault("1GiB"),
  cpus: z.number().min(0.01).max(1024).default(1),
  /** Processes and threads. */
  pids: z.int().min(8).max(100_000).default(256),
  /** Bytes of the session directory; a turn that exceeds it fails. */
  disk: size({ min: "1MiB", max: "64TiB" }).prefault("5GiB"),
  /** Files and directories of the session directory. */
  files: z.int().min(16).max(100_000_000).default(200_000),
  /** The longest a turn may take. */
  turn: duration({ min: "1s", max: "24h" }).prefault("30m"),
  /** The longest a turn may go on without an update from the agent. */
  idle: duration({ min: "1s", max: "24h" }).prefault("5m"),
  /** The longest line of the agent's protocol, and the longest reply. */
  output: size({ min: "1KiB", max: "256MiB" }).prefault("10MiB"),
  /** Bytes of a message's text. */
  message: size({ min: "1B", max: "1MiB" }).prefault("256KiB"),
  /** Attachments of a message. */
  attachments: z.int().min(0).max(100).default(20),
  /** Bytes of all attachments of a message together. */
  attachmentBytes: size({ min: "0B", max: "1GiB" }).prefault("100MiB"),
});

const agentSchema = z
  .strictObject({
    tenant: nameSchema,
    contract: z.literal("acp").default("acp"),
    /** Docker: the image. */
    image: z.string().min(1).optional(),
    /** The agent's program and arguments. Default: the image's own. */
    command: z.array(z.string().min(1)).min(1).optional(),
    /** `auto`: docker where an engine answers, else bwrap. */
    runtime: z.enum(["docker", "bwrap", "auto"]).default("auto"),
    /** Docker: `runc`, `runsc`, or any that the engine knows. */
    ociRuntime: z.string().min(1).optional(),
    /** bwrap: `host` (read-only system paths of the host), or the directory of an unpacked image. */
    rootfs: z.string().min(1).optional(),
    env: z
      .record(
        z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: "a variable's name" }),
        environmentValueSchema,
      )
      .default({}),
    limits: agentLimitsSchema.prefault({}),
    /** Failed turns: each retry waits `backoff` times two to the number of failures, at most `longest`. */
    retry: z
      .strictObject({
        attempts: z.int().min(1).max(100).default(5),
        backoff: duration({ min: "1ms", max: "1h" }).prefault("5s"),
        longest: duration({ min: "1ms", max: "24h" }).prefault("5m"),
      })
      .prefault({}),
    /** How long an activation waits for the next message after a turn. */
    linger: duration({ min: "0s", max: "24h" }).prefault("60s"),
    /** The longest an activation may live. */
    longest: duration({ min: "1m", max: "7d" }).prefault("24h"),
    /** `last`: the text after the last tool call is the reply; `all`: all of the turn's text. */
    reply: z.enum(["last", "all"]).default("last"),
    /** The answer to the agent's requests for permission. */
    permissions: z.enum(["allow", "deny"]).default("allow"),
    /** Patterns of paths (from the session directory) that are left out of the mirror. */
    exclude: z.array(z.string().min(1)).max(100).default([]),
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

const routeSchema = z.strictObject({
  channel: nameSchema,
  /** Default: all conversations of the channel. */
  conversation: z.string().min(1).optional(),
  agent: nameSchema,
  session: z.enum(sessionModes).default("shared"),
});

const channelSchema = z.union(
  [
    z.strictObject({
      /** Replies go to whoever waits for or fetches them over HTTP. */
      type: z.literal("http").default("http"),
    }),
    z.strictObject({
      /** Replies are posted to `url`, signed with `secret`. */
      type: z.literal("webhook"),
      url: z.url({ protocol: /^https?$/ }),
      secret: z.string().min(16),
      /** The longest a call may take. */
      timeout: duration({ min: "100ms", max: "5m" }).prefault("10s"),
      /**
       * Failed calls: each retry waits `backoff` times two to the number of failures, at most `longest`;
       * `giveUp` after the first call the reply becomes a dead reply.
       */
      retry: z
        .strictObject({
          backoff: duration({ min: "1ms", max: "1h" }).prefault("1s"),
          longest: duration({ min: "1ms", max: "1h" }).prefault("1m"),
          giveUp: duration({ min: "1ms", max: "7d" }).prefault("15m"),
        })
        .prefault({}),
    }),
  ],
  { error: 'type "http", or type "webhook" with url and secret' },
);

export const configurationSchema = z
  .strictObject({
    tenants: z.record(nameSchema, tenantSchema),
    /** Keys of the fleet's operators, who belong to no tenant: queues and dashboards of the whole fleet. */
    operators: z
      .array(keySchema.extend({ scopes: keySchema.shape.scopes.prefault(["operate"]) }))
      .default([]),
    agents: z.record(nameSchema, agentSchema),
    /** The first that matches a message's channel, conversation and agent decides its session. */
    routes: z.array(routeSchema),
    channels: z.record(nameSchema, channelSchema),
    worker: z
      .strictObject({
        /** Activations at once. */
        places: z.int().min(1).max(10_000).default(16),
        /** How long a worker may be silent before its sessions go to others. */
        lease: duration({ min: "1s", max: "10m" }).prefault("15s"),
        /** How long running turns may go on after SIGTERM. */
        drain: duration({ min: "0s", max: "24h" }).prefault("60s"),
        /** How often leftovers of dead activations are looked for. */
        reaper: duration({ min: "1s", max: "1h" }).prefault("30s"),
        /** Bytes of the host's chunk cache, shared by its workers. */
        chunkCache: size({ min: "0B", max: "64TiB" }).prefault("10GiB"),
      })
      .prefault({}),
    dispatcher: z
      .strictObject({
        /** How often lost wakes are looked for. */
        sweeper: duration({ min: "100ms", max: "1h" }).prefault("10s"),
        records: z
          .strictObject({
            /** How long the record of an ended message is kept, and its id known as a duplicate. */
            keep: duration({ min: "1m", max: "30d" }).prefault("24h"),
          })
          .prefault({}),
        events: z
          .strictObject({
            keep: duration({ min: "1m", max: "30d" }).prefault("24h"),
            /** Events of a session that are kept. */
            length: z.int().min(10).max(1_000_000).default(1_000),
          })
          .prefault({}),
      })
      .prefault({}),
  })
  .superRefine((configuration, context) => {
    const report = (path: (string | number)[], message: string) =>
      context.addIssue({ code: "custom", path, message });
    for (const [name, agent] of Object.entries(configuration.agents)) {
      if (!Object.hasOwn(configuration.tenants, agent.tenant))
        report(
          ["agents", name, "tenant"],
          `one of the tenants (${Object.keys(configuration.tenants).join(", ")})`,
        );
    }
    configuration.routes.forEach((route, index) => {
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
  });

export type Configuration = z.output<typeof configurationSchema>;
export type KeyDefinition = z.output<typeof keySchema>;
export type AgentDefinition = Configuration["agents"][string];
export type ChannelDefinition = Configuration["channels"][string];
export type Route = Configuration["routes"][number];
