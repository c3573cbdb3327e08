import { describe, expect, it } from "vitest";
import type { InvalidConfigurationError } from "./configuration.ts";
import { environmentSecrets, readEnvironment } from "./environment.ts";

const OBJECT_STORE_URL = "file:///var/lib/longshore";

function problemsOf(variables: NodeJS.ProcessEnv): readonly string[] {
  try {
    readEnvironment(variables);
  } catch (error) {
    return (error as InvalidConfigurationError).problems;
  }
  throw new Error("it was taken");
}

describe("readEnvironment", () => {
  it("puts in the defaults", () => {
    expect(readEnvironment({ OBJECT_STORE_URL })).toMatchObject({
      LONGSHORE_CONFIG: "longshore.yaml",
      REDIS_URL: "redis://127.0.0.1:6379",
      PORT: 8080,
      HOST: "127.0.0.1",
      METRICS_PORT: 9464,
      METRICS_HOST: "127.0.0.1",
      S3_FORCE_PATH_STYLE: false,
      LOG_LEVEL: "info",
    });
  });

  it("reads numbers and flags", () => {
    const variables = { OBJECT_STORE_URL, PORT: "0", LONGSHORE_PLACES: "4", S3_FORCE_PATH_STYLE: "true" };
    expect(readEnvironment(variables)).toMatchObject({
      PORT: 0,
      LONGSHORE_PLACES: 4,
      S3_FORCE_PATH_STYLE: true,
    });
  });

  it("says one line per problem", () => {
    expect(
      problemsOf({ PORT: "", METRICS_PORT: "70000", LOG_LEVEL: "loud", LONGSHORE_RUN_DIR: "run" }),
    ).toMatchInlineSnapshot(`
      [
        "OBJECT_STORE_URL: given nothing; allowed: s3://bucket/prefix or file:///path",
        "LOG_LEVEL: given "loud"; allowed: one of "trace"|"debug"|"info"|"warn"|"error"|"fatal"|"silent"",
        "PORT: given ""; allowed: a whole number from 0 to 65535",
        "METRICS_PORT: given "70000"; allowed: a whole number from 0 to 65535",
        "LONGSHORE_RUN_DIR: given "run"; allowed: an absolute path",
      ]
    `);
  });

  it("repeats no address, which may hold a password", () => {
    const problems = problemsOf({
      REDIS_URL: "redis:/user:hunter2@host",
      OBJECT_STORE_URL: "s3:/hunter2",
      S3_ENDPOINT: "hunter2@host",
      DOCKER_HOST: "user:hunter2@host",
    });
    expect(problems).toHaveLength(4);
    expect(problems.join("\n")).not.toContain("hunter2");
  });
});

describe("environmentSecrets", () => {
  it("finds passwords as written and as meant, and the keys of the object store", () => {
    expect(
      environmentSecrets({
        REDIS_URL: "redis://user:p%40ssword@host",
        AWS_SECRET_ACCESS_KEY: "key",
        AWS_SESSION_TOKEN: "token",
      }),
    ).toEqual(["p%40ssword", "p@ssword", "key", "token"]);
  });

  it("finds none where there are none", () => {
    expect(environmentSecrets({ REDIS_URL: "redis://host" })).toEqual([]);
    expect(environmentSecrets({ REDIS_URL: "not an address" })).toEqual([]);
  });
});
