import { describe, expect, it } from "vitest";
import { parseRedisUrl, redisHosts, redisSecrets } from "./redis-address.ts";

describe("parseRedisUrl", () => {
  it.each([
    [
      "redis://localhost",
      { kind: "single", hosts: [{ host: "localhost", port: 6379 }], database: 0, tls: false },
    ],
    [
      "rediss://ada:p%40ss@[::1]:7000/3",
      {
        ...{ kind: "single", hosts: [{ host: "::1", port: 7000 }], database: 3, tls: true },
        ...{ username: "ada", password: "p@ss" },
      },
    ],
    [
      "redis://:secret@h/",
      { kind: "single", hosts: [{ host: "h", port: 6379 }], database: 0, tls: false, password: "secret" },
    ],
    [
      "redis+sentinel://:pw@a:1,b/fleet/2?sentinelPassword=x%2Fy",
      {
        ...{
          kind: "sentinel",
          name: "fleet",
          database: 2,
          tls: false,
          password: "pw",
          sentinelPassword: "x/y",
        },
        hosts: [
          { host: "a", port: 1 },
          { host: "b", port: 26_379 },
        ],
      },
    ],
    [
      "rediss+cluster://a:1,b:2",
      {
        ...{ kind: "cluster", tls: true },
        hosts: [
          { host: "a", port: 1 },
          { host: "b", port: 2 },
        ],
      },
    ],
  ])("reads %s", (url, address) => {
    expect(parseRedisUrl(url)).toEqual(address);
  });

  it.each([
    "",
    "localhost:6379",
    "http://h",
    "redis://",
    "redis://a,b",
    "redis://h:0",
    "redis://h:65536",
    "redis://h/name",
    "redis://h/1/2",
    "redis://h?family=6",
    "redis://%:x@h",
    "redis+sentinel://h",
    "redis+sentinel://h/",
    "redis+sentinel://h/name/x",
    "redis+sentinel://h/name?password=x",
    "redis+cluster://h/1",
    "redis+cluster://h,",
    "redis+other://h",
  ])("refuses %s", (url) => {
    expect(parseRedisUrl(url)).toBeUndefined();
  });
});

it("tells addresses without secrets, and secrets as they are written and meant", () => {
  const url = "redis+sentinel://ada:p%40ss@a:1,b/fleet?sentinelPassword=other";
  expect(redisHosts(url)).toBe("a:1,b:26379");
  expect(redisSecrets(url)).toEqual(["p%40ss", "p@ss", "other", "other"]);
  expect(redisHosts("redis://nonsense:x@")).toBe("REDIS_URL");
});
