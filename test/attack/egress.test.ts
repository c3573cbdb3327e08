import { once } from "node:events";
import {
  createServer as createHttp,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { Dialer, EgressProxy, type EgressRecord, isPublicAddress } from "@longshore/sandbox";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readAll, World } from "../conformance/sandbox/world.ts";
import { egressScript, TAKEN } from "./scripts.ts";
import { attacked } from "./weakened.ts";

const SECRET_PAGE = "the inside";
/** Stands for the internet: the one address that counts as public here. The inside is the rest of loopback. */
const OUTSIDE = "127.0.0.2";
const NAMES: Readonly<Record<string, readonly string[]>> = {
  "relay.example.com": [OUTSIDE],
  "rebound.example.com": ["127.0.0.1"],
  "mapped.example.com": ["::ffff:127.0.0.1"],
  "inside.internal.example": ["127.0.0.1"],
};

let inside: Server;
let relay: Server;
let insidePort: number;
let relayPort: number;

beforeAll(async () => {
  inside = createHttp((_request, response) => response.end(SECRET_PAGE));
  await once(inside.listen(0, "127.0.0.1"), "listening");
  insidePort = (inside.address() as AddressInfo).port;
  // A server of the outside that helps: it serves by Host, and relays.
  relay = createHttp((request: IncomingMessage, response: ServerResponse) => {
    response.end(request.headers.host?.startsWith("inside") ? SECRET_PAGE : "the outside");
  });
  relay.on("connect", (_request, near: Socket) => {
    const far = connect(insidePort, "127.0.0.1");
    near.write("HTTP/1.1 200 OK\r\n\r\n");
    near.pipe(far).pipe(near);
    for (const side of [near, far]) side.on("error", () => undefined);
  });
  await once(relay.listen(0, OUTSIDE), "listening");
  relayPort = (relay.address() as AddressInfo).port;
});
afterAll(() => {
  inside.close();
  relay.close();
});

const get = (url: string, host: string) =>
  `GET ${url} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
const connectTo = (authority: string) => `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`;

/** Each a list of texts, one after each answer. */
function attacks(): Record<string, string[]> {
  const at = (host: string) => `${host}:${insidePort}`;
  const helper = `relay.example.com:${relayPort}`;
  const plain = get("/", "inside.internal.example");
  return {
    "an address": [get(`http://${at("127.0.0.1")}/`, "x")],
    "an address in other spellings": [get(`http://${at("2130706433")}/`, "x")],
    "a name of the inside": [get(`http://${at("inside.internal.example")}/`, "x")],
    "an allowed name that leads inside": [get(`http://${at("rebound.example.com")}/`, "x")],
    "an allowed name that leads inside, mapped": [get(`http://${at("mapped.example.com")}/`, "x")],
    "CONNECT to an address": [connectTo(at("127.0.0.1")), plain],
    "CONNECT to an allowed name that leads inside": [connectTo(at("rebound.example.com")), plain],
    "a relayed CONNECT": [connectTo(helper), connectTo(at("127.0.0.1")), plain],
    "plain HTTP in a tunnel": [connectTo(helper), plain],
    "another Host than the URL's": [get(`http://${helper}/`, "inside.internal.example")],
    "another name after a dot": [get(`http://${at("rebound.example.com.")}/`, "x")],
  };
}

/** A proxy as one may write it: it goes where it is told to. */
function naiveProxy(near: Socket): void {
  let far: Socket | undefined;
  near.on("error", () => undefined);
  near.on("data", (chunk: Buffer) => {
    if (far !== undefined) {
      far.write(chunk);
      return;
    }
    const text = chunk.toString();
    const [, method, host = "", port] = /^(GET|CONNECT) (?:http:\/\/)?([^/:]+):(\d+)/.exec(text) ?? [];
    const name = host.replace(/\.$/, "");
    far = connect(Number(port), NAMES[name]?.at(0) ?? (name === "2130706433" ? "127.0.0.1" : name));
    far.on("error", () => near.destroy());
    if (method === "CONNECT") near.write("HTTP/1.1 200 OK\r\n\r\n");
    else far.write(text.replace(/^GET http:\/\/[^/]+/, "GET "));
    far.pipe(near);
  });
}

describe.each(attacked)("$name", (platform) => {
  let world: World;
  beforeAll(async () => {
    world = await World.open(platform);
  });
  afterAll(() => world.close());

  async function attack(egress: (socket: Socket) => void): Promise<string[]> {
    const script = egressScript(Object.values(attacks()), SECRET_PAGE);
    const limits = { memoryBytes: 1024 ** 3, cpus: 2, pids: 64 };
    const sandbox = await world.start(["node", "-e", script], { egress, limits });
    const stdout = await readAll(sandbox);
    expect((await sandbox.exited).exitCode).toBe(0);
    const taken = stdout
      .split("\n")
      .flatMap((line) => (line.startsWith(TAKEN) ? [Number(line.slice(TAKEN.length))] : []));
    return taken.map((index) => Object.keys(attacks())[index] ?? "?");
  }

  test("the inside is not reached through the proxy", async () => {
    const records: EgressRecord[] = [];
    const proxy = new EgressProxy({
      definition: {
        allow: [`*.example.com:${insidePort}`, `*.example.com:${relayPort}`],
        credentials: [],
        limits: { requests: 1_000, connections: 64, bytes: 1024 ** 2 },
        idle: 60_000,
      },
      dialer: new Dialer({
        resolve: async (host) => NAMES[host] ?? [],
        mayDial: (address) => address === OUTSIDE || isPublicAddress(address),
      }),
      onDecision: (record) => records.push(record),
    });
    expect(await attack(proxy.serve)).toEqual([]);
    expect(new Set(records.map(({ decision }) => decision))).toEqual(
      new Set(["denied_host", "denied_address", "denied_tunnel", "allowed"]),
    );
    proxy.close();
  });

  test("each of the attacks bites on a proxy that goes where it is told to", async () => {
    expect(await attack(naiveProxy)).toEqual(Object.keys(attacks()));
  });
});
