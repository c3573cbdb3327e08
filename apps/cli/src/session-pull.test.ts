import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { hashId, systemClock } from "@longshore/shared";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Output } from "./output.ts";
import { pullSession } from "./session-pull.ts";

const sessionId = hashId("a session");
const modifiedAt = "2026-01-02T03:04:05.678Z";

/** What the server says that the session holds; `content` is what it sends, whatever it announced. */
interface Served {
  readonly path: string;
  readonly type: "file" | "directory" | "link";
  readonly mode?: number;
  readonly content?: string;
  readonly sizeBytes?: number;
  readonly target?: string;
  readonly pathBase64?: string;
}

let base: string;
let directory: string;
let server: Server;
let served: readonly Served[];
let pageSize: number;
/** Paths whose content was asked for. */
let downloads: string[];
const stdout = new PassThrough({ encoding: "utf8" });

beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), "session-pull-"));
  directory = join(base, "copy");
  pageSize = 1_000;
  downloads = [];
  server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost");
    const [, name] = /\/files\/(.+)$/.exec(pathname) ?? [];
    if (name !== undefined) {
      const path = Buffer.from(name, "base64url");
      downloads.push(path.toString("latin1"));
      const file = served.find((entry) => path.equals(bytesOf(entry)));
      response.end(file?.content ?? "");
      return;
    }
    const start = Number(searchParams.get("cursor") ?? 0);
    const files = served.slice(start, start + pageSize).map(({ content, ...entry }) => ({
      mode: 0o644,
      modifiedAt,
      ...(content === undefined ? {} : { sizeBytes: content.length }),
      ...entry,
    }));
    const more = start + pageSize < served.length ? { cursor: String(start + pageSize) } : {};
    response.end(JSON.stringify({ generation: Number(searchParams.get("generation") ?? 3), files, ...more }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(base, { recursive: true });
});

function bytesOf({ path, pathBase64 }: Served): Buffer {
  return pathBase64 === undefined ? Buffer.from(path) : Buffer.from(pathBase64, "base64url");
}

const pull = (
  entries: readonly Served[],
  session = sessionId,
  options: { readonly update?: boolean; readonly delete?: boolean; readonly under?: string } = {},
) => {
  served = entries;
  const { port } = server.address() as AddressInfo;
  return pullSession(
    {
      output: new Output({ stdout, stderr: stdout }),
      input: new PassThrough(),
      environment: {},
      clock: systemClock,
      signal: new AbortController().signal,
    },
    session,
    directory,
    { url: `http://127.0.0.1:${port}`, ...options },
  );
};

const code = (expected: string) => expect.objectContaining({ code: expected });

describe("pulling a session", () => {
  it("makes files, directories and links as they are, over several pages", async () => {
    pageSize = 2;
    const odd = Buffer.from([0x6e, 0xff, 0x0a]);
    await pull([
      { path: "workspace", type: "directory", mode: 0o555 },
      { path: "workspace/a", type: "file", mode: 0o640, content: "text" },
      { path: "workspace/empty", type: "file", content: "" },
      { path: "workspace/link", type: "link", target: "/etc/passwd" },
      { path: "n\ufffd\n", pathBase64: odd.toString("base64url"), type: "file", content: "odd" },
    ]);
    expect(readFileSync(join(directory, "workspace/a"), "utf8")).toBe("text");
    expect(statSync(join(directory, "workspace/a")).mode & 0o7777).toBe(0o640);
    expect(statSync(join(directory, "workspace/a")).mtime.toISOString()).toBe(modifiedAt);
    expect(statSync(join(directory, "workspace")).mode & 0o7777).toBe(0o555);
    expect(statSync(join(directory, "workspace")).mtime.toISOString()).toBe(modifiedAt);
    expect(readlinkSync(join(directory, "workspace/link"))).toBe("/etc/passwd");
    expect(readdirSync(directory, { encoding: "buffer" }).some((name) => name.equals(odd))).toBe(true);
    expect(stdout.read()).toContain("5 entries, 7 bytes of generation 3");
  });

  it.each<[string, readonly Served[], string]>([
    ["a path above the directory", [{ path: "../out", type: "file", content: "x" }], "UNSAFE_PATH"],
    ["an absolute path", [{ path: "/tmp/out", type: "file", content: "x" }], "UNSAFE_PATH"],
    [
      "a path above it by its bytes",
      [
        {
          path: "x",
          pathBase64: Buffer.from("a/../../out").toString("base64url"),
          type: "file",
          content: "x",
        },
      ],
      "UNSAFE_PATH",
    ],
    ["a directory above it", [{ path: "../out", type: "directory" }], "UNSAFE_PATH"],
    ["a link above it", [{ path: "../out", type: "link", target: "x" }], "UNSAFE_PATH"],
    [
      "a link that stands where a directory is",
      [
        { path: "a", type: "directory" },
        { path: "a", type: "link", target: ".." },
      ],
      "PATH_EXISTS",
    ],
    [
      "a file twice",
      [
        { path: "a", type: "file", content: "1" },
        { path: "a", type: "file", content: "1" },
      ],
      "PATH_EXISTS",
    ],
    [
      "more bytes than announced",
      [{ path: "a", type: "file", content: "x".repeat(100_000), sizeBytes: 5 }],
      "PULL_REFUSED",
    ],
    ["fewer bytes than announced", [{ path: "a", type: "file", content: "x", sizeBytes: 5 }], "PULL_REFUSED"],
    ["a link without a target", [{ path: "a", type: "link" }], "DISPATCHER_PROTOCOL"],
  ])("refuses a server that gives %s", async (_what, entries, expected) => {
    await expect(pull(entries)).rejects.toThrow(code(expected));
    expect(readdirSync(base)).toEqual(["copy"]);
    expect(existsSync("/tmp/out")).toBe(false);
  });

  it("writes nothing through a link of the session", async () => {
    await expect(
      pull([
        { path: "a", type: "link", target: base },
        { path: "a/out", type: "file", content: "x" },
      ]),
    ).rejects.toThrow();
    expect(readdirSync(base)).toEqual(["copy"]);
  });

  it("overwrites nothing", async () => {
    await pull([{ path: "a", type: "file", content: "1" }]);
    await expect(pull([{ path: "a", type: "file", content: "2" }])).rejects.toThrow(code("PULL_REFUSED"));
    expect(readFileSync(join(directory, "a"), "utf8")).toBe("1");
  });

  it("downloads only what differs into a directory that it may update", async () => {
    const entries: Served[] = [
      { path: "d", type: "directory", mode: 0o500 },
      { path: "d/same", type: "file", content: "same" },
      { path: "d/longer", type: "file", content: "1" },
      { path: "d/mode", type: "file", content: "mode" },
      { path: "link", type: "link", target: "a" },
    ];
    await pull(entries);
    downloads = [];
    const changed = [
      ...entries.slice(0, 2),
      { path: "d/longer", type: "file", content: "12", mode: 0o600 },
      { path: "d/mode", type: "file", content: "mode", mode: 0o755 },
      { path: "link", type: "link", target: "b" },
      { path: "new", type: "file", content: "new" },
    ] as const;
    writeFileSync(join(directory, "mine"), "mine");
    await pull(changed, sessionId, { update: true });
    expect(downloads.sort()).toEqual(["d/longer", "d/mode", "new"]);
    expect(readFileSync(join(directory, "d/longer"), "utf8")).toBe("12");
    expect(statSync(join(directory, "d/mode")).mode & 0o777).toBe(0o755);
    expect(statSync(join(directory, "d")).mode & 0o777).toBe(0o500);
    expect(readlinkSync(join(directory, "link"))).toBe("b");
    expect(readdirSync(directory).sort()).toEqual(["d", "link", "mine", "new"]);
    downloads = [];
    await pull(changed, sessionId, { update: true, delete: true });
    expect(downloads).toEqual([]);
    expect(existsSync(join(directory, "mine"))).toBe(false);
  });

  it("replaces a directory by a file, or a file by one, only where it may delete", async () => {
    await pull([
      { path: "a", type: "file", content: "x" },
      { path: "b", type: "directory" },
      { path: "b/c", type: "file", content: "x" },
    ]);
    const swapped = [
      { path: "a", type: "directory" },
      { path: "a/c", type: "file", content: "x" },
      { path: "b", type: "file", content: "y" },
    ] as const;
    await expect(pull(swapped, sessionId, { update: true })).rejects.toThrow(code("PULL_REFUSED"));
    expect(readFileSync(join(directory, "b/c"), "utf8")).toBe("x");
    await pull(swapped, sessionId, { update: true, delete: true });
    expect(readFileSync(join(directory, "a/c"), "utf8")).toBe("x");
    expect(readFileSync(join(directory, "b"), "utf8")).toBe("y");
  });

  it("leaves an old file as it is where the new one does not come whole", async () => {
    await pull([{ path: "a", type: "file", content: "old" }]);
    await expect(
      pull([{ path: "a", type: "file", content: "x", sizeBytes: 5 }], sessionId, { update: true }),
    ).rejects.toThrow(code("PULL_REFUSED"));
    expect(readFileSync(join(directory, "a"), "utf8")).toBe("old");
    expect(readdirSync(directory)).toEqual(["a"]);
  });

  it("takes a part of a session for the whole directory", async () => {
    await pull(
      [
        { path: "w", type: "directory" },
        { path: "w/d", type: "directory" },
        { path: "w/d/a", type: "file", content: "x" },
      ],
      sessionId,
      { under: "/session/w" },
    );
    expect(readFileSync(join(directory, "d/a"), "utf8")).toBe("x");
    expect(downloads).toEqual(["w/d/a"]);
  });

  it("puts nothing but a session's id into an address", async () => {
    await expect(pull([], "../messages")).rejects.toThrow(code("USAGE"));
    expect(existsSync(directory)).toBe(false);
  });

  it("does not follow a link to make its directory", async () => {
    await pull([
      { path: "d", type: "directory" },
      { path: "l", type: "link", target: "d" },
    ]);
    const link = join(directory, "l");
    directory = link;
    await expect(pull([{ path: "a", type: "file", content: "x" }])).rejects.toThrow();
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
  });
});
