import { describe, expect, it } from "vitest";
import { KnownSecrets } from "./known-secrets.ts";
import { createLogger, type LoggerOptions, redactUrls } from "./logger.ts";

function capture(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const logger = createLogger({
    name: "test",
    destination: { write: (line) => lines.push(line) },
    ...options,
  });
  return { logger, lines };
}

describe("createLogger", () => {
  it("writes JSON lines with name, level and time", () => {
    const { logger, lines } = capture();
    logger.info({ sessionId: "s" }, "ready");
    expect(JSON.parse(lines[0] as string)).toMatchObject({
      name: "test",
      level: 30,
      msg: "ready",
      sessionId: "s",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    });
  });

  it("takes secrets out by the name of their field, three levels deep", () => {
    const { logger, lines } = capture();
    logger.info({
      token: "hunter2",
      request: { headers: { authorization: "Bearer hunter2" }, password: "hunter2" },
    });
    expect(lines.join("")).not.toContain("hunter2");
  });

  it("takes known secrets out of texts, errors and their causes, also where JSON escapes them", () => {
    const secrets = ['quo"te\\back', "plain-secret"];
    const { logger, lines } = capture({ secrets: new KnownSecrets(secrets) });
    logger.error(
      { err: new Error(`with ${secrets[0]}`, { cause: new Error(`cause ${secrets[1]}`) }) },
      `message ${secrets[0]} ${secrets[1]}`,
    );
    expect(lines.join("")).not.toMatch(/quo|plain-secret/);
    expect(() => JSON.parse(lines[0] as string)).not.toThrow();
  });

  it("takes the longer of two secrets out whole where one contains the other", () => {
    const { logger, lines } = capture({ secrets: new KnownSecrets(["secret", "secret-and-more"]) });
    logger.info("secret-and-more");
    expect(JSON.parse(lines[0] as string).msg).toBe("[redacted]");
  });

  it("takes secrets out that became known only when it was there", () => {
    const secrets = new KnownSecrets(["the-first"]);
    const { logger, lines } = capture({ secrets });
    secrets.add(["the-second"]);
    logger.info("the-first and the-second");
    expect(JSON.parse(lines[0] as string).msg).toBe("[redacted] and [redacted]");
  });

  it("takes passwords out of addresses and leaves the line JSON", () => {
    const { logger, lines } = capture();
    logger.info({
      url: "redis://user:hunter2@host:6379/0",
      endpoint: "http://host:80",
      sender: "ann@example.org",
    });
    expect(JSON.parse(lines[0] as string)).toMatchObject({
      url: "redis://user:[redacted]@host:6379/0",
      endpoint: "http://host:80",
      sender: "ann@example.org",
    });
  });
});

describe("redactUrls", () => {
  it.each([
    ["redis://:pw@host", "redis://:[redacted]@host"],
    ["redis://u:p@ss@host/1", "redis://u:[redacted]@host/1"],
    ["see http://a:b@c and http://d:e@f", "see http://a:[redacted]@c and http://d:[redacted]@f"],
    ["http://host:80/path@x", "http://host:80/path@x"],
    ["no address", "no address"],
  ])("%j becomes %j", (text, expected) => {
    expect(redactUrls(text)).toBe(expected);
  });
});
