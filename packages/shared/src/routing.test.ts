import { describe, expect, it } from "vitest";
import { parseConfiguration } from "./configuration.ts";
import { routeMessage } from "./routing.ts";
import { deriveSessionId } from "./session-id.ts";

const { configuration } = parseConfiguration(
  `
tenants: { a: {}, b: {} }
agents:
  one: { tenant: a, runtime: docker, image: one }
  two: { tenant: a, runtime: docker, image: two }
  other: { tenant: b, runtime: docker, image: other }
channels: { http: {}, chat: {} }
routes:
  - { channel: http, conversation: special, agent: one, session: agent-shared }
  - { channel: http, agent: one, session: per-thread }
  - { channel: http, agent: one, session: shared }
  - { channel: chat, agent: two }
`,
  { path: "longshore.yaml", environment: {} },
);

const to = { tenant: "a", agent: "one", channel: "http", conversation: "c", thread: "t" };
const code = (expected: string) => expect.objectContaining({ code: expected });

describe("routeMessage", () => {
  it("lets the first route that matches decide", () => {
    expect(routeMessage(configuration, to)).toEqual({
      sessionId: deriveSessionId("per-thread", to),
      agent: configuration.agents.one,
      destinations: {},
      operator: false,
    });
    const special = { ...to, conversation: "special" };
    expect(routeMessage(configuration, special).sessionId).toBe(deriveSessionId("agent-shared", special));
  });

  it.each([
    ["an unknown tenant", { tenant: "c" }, "UNKNOWN_TENANT"],
    ["a tenant named like a property of every object", { tenant: "constructor" }, "UNKNOWN_TENANT"],
    ["an unknown agent", { agent: "three" }, "UNKNOWN_AGENT"],
    ["an agent named like a property of every object", { agent: "toString" }, "UNKNOWN_AGENT"],
    ["another tenant's agent", { agent: "other" }, "UNKNOWN_AGENT"],
    ["an unknown channel", { channel: "slack" }, "UNKNOWN_CHANNEL"],
    ["a channel without a route to the agent", { channel: "chat" }, "NO_ROUTE"],
  ])("refuses %s", (_what, change, expected) => {
    expect(() => routeMessage(configuration, { ...to, ...change })).toThrow(code(expected));
  });
});
