import { describe, expect, it } from "vitest";
import { looksSecret } from "./secret-shape.ts";

describe("a variable seems to be a secret", () => {
  it.each([
    ["X", `sk-ant-api03-${"a".repeat(20)}`],
    ["X", `ghp_${"a1".repeat(18)}`],
    ["X", `github_pat_${"a1".repeat(18)}`],
    ["X", `glpat-${"a1".repeat(10)}`],
    ["X", "xoxb-1234567890-abc"],
    ["X", "AKIAIOSFODNN7EXAMPLE"],
    ["X", `AIza${"a1".repeat(18)}`],
    ["X", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc"],
    ["X", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc"],
    ["DATABASE_URL", "postgres://ada:hunter2@db/app"],
    ["MY_TOKEN", "0123456789abcdef0"],
    ["db_password", "correct4horse5battery"],
  ])("%s=%s", (name, value) => {
    expect(looksSecret(name, value)).toBe(true);
  });

  it.each([
    ["ANTHROPIC_API_KEY", "placeholder"],
    ["API_KEY", ""],
    ["LANG", "C.UTF-8"],
    ["PATH", "/usr/local/bin:/usr/bin:/bin"],
    ["MODEL", "claude-sonnet-4-5-20250929"],
    ["KEYBOARD", "qwertz0123456789abc"],
    ["TOKEN_LIMIT", "100000000000000000a"],
    ["BASE_URL", "https://example.org:8443/path@2"],
    ["GREETING", "a key sk- is what you need to have 16 times"],
  ])("%s=%s does not", (name, value) => {
    expect(looksSecret(name, value)).toBe(false);
  });
});
