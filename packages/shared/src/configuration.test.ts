import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import {
  ConfigurationSource,
  InvalidConfigurationError,
  loadConfiguration,
  parseConfiguration,
} from "./configuration.ts";

const HASH = `sha256:${"0".repeat(64)}`;

const valid = {
  tenants: { default: { keys: [{ id: "cli", hash: HASH, scopes: ["send", "read"] }] } },
  agents: { helper: { tenant: "default", runtime: "docker", image: "longshore/agent-shell:dev" } },
  routes: [{ channel: "http", agent: "helper" }],
  channels: { http: {} },
};

/** `${NAME}` as the file has it. */
const reference = (name: string) => ["$", "{", name, "}"].join("");

function parse(document: unknown, environment: NodeJS.ProcessEnv = {}) {
  const text = typeof document === "string" ? document : stringify(document);
  return parseConfiguration(text, { path: "/nowhere/longshore.yaml", environment });
}

function problemsOf(document: unknown, environment: NodeJS.ProcessEnv = {}): readonly string[] {
  try {
    parse(document, environment);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidConfigurationError);
    expect(error).toMatchObject({ code: "INVALID_CONFIGURATION" });
    return (error as InvalidConfigurationError).problems;
  }
  throw new Error("it was taken");
}

describe("parseConfiguration", () => {
  it("puts in the defaults, durations in ms and sizes in bytes", () => {
    const { configuration } = parse(valid);
    expect(configuration.worker).toMatchObject({ places: 16, lease: 15_000, drain: 60_000 });
    expect(configuration.agents.helper).toMatchObject({
      contract: "acp",
      linger: 60_000,
      limits: { memory: 1024 ** 3, turn: 1_800_000 },
      retry: { attempts: 5, backoff: 5_000, longest: 300_000 },
    });
    expect(configuration.routes[0]?.session).toBe("shared");
    expect(configuration.channels.http).toEqual({ type: "http" });
  });

  it("says one line per problem: where, what was given, what is allowed", () => {
    const problems = problemsOf({
      ...valid,
      agents: {
        helper: { ...valid.agents.helper, tenant: "nobody", linger: "1 fortnight", colour: "red" },
        wild: { tenant: "default", runtime: "bwrap" },
      },
      routes: [{ channel: "slack", agent: "nobody", session: "private" }],
      channels: { http: {}, hook: { type: "smtp" } },
      worker: { places: 0 },
    });
    expect(problems).toMatchInlineSnapshot(`
      [
        "agents.helper.linger: given "1 fortnight"; allowed: a duration such as "30s" from 0s to 24h (units: ms, s, m, h, d)",
        "agents.helper.colour: given an unknown key; allowed: the keys of the reference",
        "agents.wild.rootfs: given nothing; allowed: rootfs and command, since the runtime is bwrap or auto",
        "routes.0.session: given "private"; allowed: one of "shared"|"per-thread"|"agent-shared"",
        "channels.hook: given a group of keys; allowed: type "http", or type "webhook" with url and secret",
        "worker.places: given 0; allowed: number to be >=1",
      ]
    `);
  });

  it("checks what refers to something else", () => {
    const second = { keys: [{ id: "again", hash: HASH, scopes: ["send"] }] };
    expect(
      problemsOf({
        ...valid,
        tenants: { ...valid.tenants, second },
        agents: { helper: { ...valid.agents.helper, tenant: "nobody" } },
        routes: [
          {
            ...{ channel: "slack", agent: "ghost" },
            destinations: { team: "irc:team" },
          },
        ],
      }),
    ).toMatchInlineSnapshot(`
      [
        "agents.helper.tenant: given "nobody"; allowed: one of the tenants (default, second)",
        "routes.0.destinations.team: given "irc:team"; allowed: one of the channels (http)",
        "routes.0.agent: given "ghost"; allowed: one of the agents (helper)",
        "routes.0.channel: given "slack"; allowed: one of the channels (http)",
        "tenants.second.keys.0.hash: given a value that is not shown; allowed: a key of its own (tenant default has it too)",
      ]
    `);
  });

  it.each([
    ["malformed YAML", "tenants: {"],
    ["a key twice", "routes: []\nroutes: []"],
    ["an alias without its anchor", "tenants: *nothing"],
    ["an empty file", ""],
    ["a list", "- a"],
  ])("refuses %s", (_what, text) => {
    expect(problemsOf(text).length).toBeGreaterThan(0);
  });

  const memory = { name: "memory", target: "/session/workspace/m" };
  it.each([
    ["in one place", { volumes: [memory, { ...memory, name: "other" }] }, "volumes"],
    [
      "in a place below a mount's",
      { mounts: [{ name: "m", source: "/srv", target: "/session/workspace/m/n" }], volumes: [memory] },
      "volumes",
    ],
    ["twice", { volumes: [memory, { ...memory, target: "/session/workspace/n" }] }, "volumes"],
    ["outside of the working directory", { volumes: [{ ...memory, target: "/session/home/m" }] }, "target"],
    ["of which sandboxes are warm", { volumes: [memory], warm: 1 }, "warm"],
    ["with an empty part in its name", { volumes: [{ ...memory, name: "a//b" }] }, "name"],
    ["with another placeholder", { volumes: [{ ...memory, name: "{tenant}" }] }, "name"],
  ])("refuses volumes %s", (_, more, where) => {
    const [problem] = problemsOf({ ...valid, agents: { helper: { ...valid.agents.helper, ...more } } });
    expect(problem).toContain(where);
  });

  it("takes the volumes of users and agents", () => {
    const volumes = [
      memory,
      { name: "persistent/{user}", target: "/session/workspace/own", whenTaken: "ro" },
    ];
    const { configuration } = parse({ ...valid, agents: { helper: { ...valid.agents.helper, volumes } } });
    expect(configuration.agents.helper?.volumes).toEqual([
      { ...memory, mode: "rw", whenTaken: "wait" },
      { ...volumes[1], mode: "rw" },
    ]);
  });

  it("takes a conversation as a destination, also one with colons, and a thread of one", () => {
    const thread = { channel: "http", conversation: "c", thread: "t" };
    const destinations = { team: "http:room:7", thread };
    const { configuration } = parse({ ...valid, routes: [{ ...valid.routes[0], destinations }] });
    expect(configuration.routes[0]?.destinations).toEqual({
      team: { channel: "http", conversation: "room:7" },
      thread,
    });
    expect(
      ["team", ":team", "http:", { channel: "http" }].map((team) =>
        problemsOf({ ...valid, routes: [{ ...valid.routes[0], destinations: { team } }] }).join(),
      ),
    ).toMatchInlineSnapshot(`
      [
        "routes.0.destinations.team: given "team"; allowed: a channel and a conversation such as "slack:C0456", or channel, conversation and thread",
        "routes.0.destinations.team: given ":team"; allowed: a channel and a conversation such as "slack:C0456", or channel, conversation and thread",
        "routes.0.destinations.team: given "http:"; allowed: a channel and a conversation such as "slack:C0456", or channel, conversation and thread",
        "routes.0.destinations.team: given a group of keys; allowed: a channel and a conversation such as "slack:C0456", or channel, conversation and thread",
      ]
    `);
  });

  it("refuses a bomb of aliases in bounded time", () => {
    const levels = Array.from({ length: 12 }, (_, level) =>
      level === 0
        ? `l0: &l0 [x, x, x]`
        : `l${level}: &l${level} [${Array(9)
            .fill(`*l${level - 1}`)
            .join(", ")}]`,
    );
    expect(problemsOf(levels.join("\n"))[0]).toContain("alias");
  });

  describe("egress", () => {
    const credential = { upstream: "https://api.example.com", as: "/api", header: "X-Api-Key" };
    const withEgress = (egress: unknown) => ({
      ...valid,
      agents: { helper: { ...valid.agents.helper, egress } },
    });

    it("is nothing unless it is configured", () => {
      expect(parse(valid).configuration.agents.helper?.egress).toMatchObject({ allow: [], credentials: [] });
    });

    it("takes secrets from variables, and tells them for the log to leave out", () => {
      const { configuration, secrets } = parse(
        withEgress({ credentials: [{ ...credential, secret: reference("KEY") }] }),
        { KEY: "sk-1" },
      );
      expect(secrets).toEqual(["sk-1"]);
      expect(configuration.agents.helper?.egress.credentials).toMatchObject([
        { header: "x-api-key", secret: "sk-1" },
      ]);
    });

    it.each([
      [{ allow: ["*.com:443"] }],
      [{ allow: ["127.0.0.1:80"] }],
      [{ credentials: [{ ...credential, secret: "x", upstream: "http://api.example.com" }] }],
      [{ credentials: [{ ...credential, secret: "x", upstream: "https://10.0.0.1" }] }],
      [{ credentials: [{ ...credential, secret: "x", upstream: "https://user:pw@api.example.com" }] }],
      [{ credentials: [{ ...credential, secret: "x\r\nhost: y" }] }],
      [{ credentials: [{ ...credential, secret: "x", header: "host" }] }],
      [{ credentials: [{ ...credential, secret: "x", as: "/a/b" }] }],
      [
        {
          credentials: [
            { ...credential, secret: "x" },
            { ...credential, secret: "y", header: "other", upstream: "https://other.example.com" },
          ],
        },
      ],
    ])("refuses %j, and shows no secret", (egress) => {
      const problems = problemsOf(withEgress(egress));
      expect(problems).toEqual([expect.stringMatching(/^agents\.helper\.egress\./)]);
      expect(problems.join()).not.toContain("pw");
    });
  });

  describe("secrets", () => {
    const withHook = (url: string, secret: string) => ({
      ...valid,
      channels: { http: {}, hook: { type: "webhook", url, secret } },
    });

    it("come from variables and are listed for the logger", () => {
      const { configuration, secrets } = parse(withHook("https://example.org", reference("HOOK")), {
        HOOK: "0123456789abcdef",
      });
      expect(configuration.channels.hook).toMatchObject({ secret: "0123456789abcdef" });
      expect(secrets).toEqual(["0123456789abcdef"]);
    });

    it("name the variable that is not set", () => {
      expect(problemsOf(withHook("https://example.org", reference("HOOK")))).toContainEqual(
        `channels.hook.secret: given ${reference("HOOK")}; allowed: a variable that is set`,
      );
    });

    it("are in no problem, wherever they were put", () => {
      const problems = problemsOf(
        {
          ...withHook(reference("WRONG_PLACE"), "too-short"),
          agents: {
            helper: {
              ...valid.agents.helper,
              linger: reference("WRONG_PLACE"),
              runtime: reference("WRONG_PLACE"),
            },
          },
          worker: { [reference("WRONG_PLACE")]: 1 },
        },
        { WRONG_PLACE: "hunter2-hunter2" },
      ).join("\n");
      expect(problems).toContain("agents.helper.linger");
      expect(problems).toContain("channels.hook.secret");
      expect(problems).not.toMatch(/hunter2|too-short/);
    });

    it("reach an agent only where the operator says that it sees them", () => {
      const agent = (value: unknown) => ({
        ...valid,
        agents: { helper: { ...valid.agents.helper, env: { TOKEN: value, LANG: "C.UTF-8" } } },
      });
      expect(problemsOf(agent(reference("TOKEN")), { TOKEN: "0123456789abcdef" })).toEqual([
        "agents.helper.env.TOKEN: given a secret; allowed: { value: ..., visible: true }, since the agent will see it",
      ]);
      const { configuration } = parse(agent({ value: reference("TOKEN"), visible: true }), {
        TOKEN: "0123456789abcdef",
      });
      expect(configuration.agents.helper?.env.TOKEN).toEqual({ value: "0123456789abcdef", visible: true });
    });

    it("are known by name and form, also where they are written into the file", () => {
      const withToken = (value: unknown) => ({
        ...valid,
        agents: { helper: { ...valid.agents.helper, env: { TOKEN: value, KEY: "placeholder" } } },
      });
      const [problem, ...others] = problemsOf(withToken("hunter2-hunter2-hunter2"));
      expect(problem).toMatch(/^agents\.helper\.env\.TOKEN: .*visible: true/);
      expect(problem).not.toContain("hunter2");
      expect(others).toEqual([]);
      parse(withToken("none"));
      parse(withToken({ value: "hunter2-hunter2-hunter2", visible: true }));
    });
  });
});

describe("files", () => {
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "configuration-"));
    path = join(directory, "longshore.yaml");
    writeFileSync(path, stringify(valid));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it("bring in secrets from beside the configuration, without the line's end", () => {
    writeFileSync(join(directory, "hook"), "0123456789abcdef\n");
    writeFileSync(
      path,
      stringify({
        ...valid,
        channels: { http: {}, hook: { type: "webhook", url: "https://example.org", secret: "file:hook" } },
      }),
    );
    expect(loadConfiguration(path, {}).secrets).toEqual(["0123456789abcdef"]);
  });

  it("that are missing are a problem", () => {
    expect(() => loadConfiguration(join(directory, "other.yaml"), {})).toThrow(InvalidConfigurationError);
    writeFileSync(path, stringify({ ...valid, tenants: { default: { keys: "file:nothing" } } }));
    expect(() => loadConfiguration(path, {})).toThrow("allowed: a readable file");
  });

  it("are read again on SIGHUP; a bad one is refused and the old one kept", () => {
    const reloads: string[] = [];
    const source = new ConfigurationSource({
      path,
      environment: { HOOK: "0123456789abcdef" },
      onReload: (configuration) => reloads.push(`lease ${configuration.worker.lease}`),
      onRefused: (error) => reloads.push(error.code),
    });
    const hook = { type: "webhook", url: "https://example.org/in", secret: reference("HOOK") };
    const replace = (text: string) => {
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
      process.emit("SIGHUP");
    };
    source.watch();
    try {
      replace(stringify({ ...valid, worker: { lease: "5s" }, channels: { http: {}, hook } }));
      // The logger has it from now on.
      expect(source.secrets.redact("0123456789abcdef")).toBe("[redacted]");
      replace("tenants: *nothing");
      expect(reloads).toEqual(["lease 5000", "INVALID_CONFIGURATION"]);
      expect(source.current.worker.lease).toBe(5_000);
    } finally {
      source.close();
    }
    replace(stringify(valid));
    expect(reloads).toHaveLength(2);
  });
});
