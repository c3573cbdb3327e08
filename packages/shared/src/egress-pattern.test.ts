import { expect, test } from "vitest";
import { hostName, matchesEgress, parseEgressPattern } from "./egress-pattern.ts";

test.each(["api.example.com:443", "*.pypi.org:443", "*.s3.example.co.uk:8443", "EXAMPLE.com:80"])(
  "%s is a pattern",
  (text) => {
    expect(parseEgressPattern(text)).toMatchObject({ port: expect.any(Number) });
  },
);

test.each([
  ...["*.com:443", "*:443", "*.*.com:443", "a*.example.com:443", "*.co.uk:443", "*.com.au:443", "**.a.b:1"],
  ...["example.com", "example.com:0", "example.com:65536", "example.com:443/x", "https://example.com:443"],
  ...["127.0.0.1:80", "[::1]:80", "0x7f.1:80", "2130706433:80", "1.2.3.0x4:80", "localhost:80", "redis:6379"],
  ...[
    "-a.example.com:1",
    "a..b:1",
    ".example.com:1",
    `${"a".repeat(64)}.example.com:1`,
    "ex ample.com:1",
    "",
  ],
])("%j is refused with the reason", (text) => {
  expect(parseEgressPattern(text)).toEqual(expect.any(String));
});

test("a wildcard is every name below, by whole labels, on its port", () => {
  const pattern = parseEgressPattern("*.example.com:443");
  if (typeof pattern === "string") throw new Error(pattern);
  const matches = (host: string, port = 443) => matchesEgress(pattern, host, port);
  expect([matches("a.example.com"), matches("a.b.example.com")]).toEqual([true, true]);
  expect([matches("example.com"), matches("badexample.com"), matches("a.example.com", 80)]).toEqual([
    ...[false, false, false],
  ]);
  expect(matches("a.example.com.evil.org")).toBe(false);
});

test("names are compared in lower case and without the last dot", () => {
  expect(hostName("API.Example.COM.")).toBe("api.example.com");
  expect(hostName("bücher.example")).toBeUndefined();
  expect(hostName("a\r\nb.example")).toBeUndefined();
});
