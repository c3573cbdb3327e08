import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { InvalidConfigurationError } from "./configuration.ts";
import { describeIssues } from "./configuration-problems.ts";
import { parseRedisUrl, REDIS_URL_FORMS, redisSecrets } from "./redis-address.ts";

/** A number in decimal digits: an empty variable is no zero. */
function wholeNumber(min: number, max: number) {
  const error = `a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,10}$/, { error })
    .transform(Number)
    .pipe(z.number().min(min, { error }).max(max, { error }));
}

const port = wholeNumber(0, 65_535);
const flag = z
  .enum(["0", "1", "false", "true"], { error: "0, 1, false or true" })
  .transform((text) => text === "1" || text === "true");

const environmentSchema = z.object({
  LONGSHORE_CONFIG: z.string().min(1).default("longshore.yaml"),
  REDIS_URL: z
    .string()
    .refine((url) => parseRedisUrl(url) !== undefined, { error: REDIS_URL_FORMS })
    .default("redis://127.0.0.1:6379"),
  OBJECT_STORE_URL: z
    .string({ error: "s3://bucket/prefix or file:///path" })
    .regex(/^(s3:\/\/[^/]|file:\/\/\/)/, { error: "s3://bucket/prefix or file:///path" }),
  S3_ENDPOINT: z.url({ protocol: /^https?$/, error: "an http or https address" }).optional(),
  S3_FORCE_PATH_STYLE: flag.default(false),
  AWS_REGION: z.string().min(1).default("us-east-1"),
  DOCKER_HOST: z
    .string()
    .regex(/^(unix|tcp|http|https):\/\//, { error: "unix:///path or tcp://host:port" })
    .optional(),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  /** Of the dispatcher's API; 0: a free one. */
  PORT: port.prefault("8080"),
  HOST: z.string().min(1).default("127.0.0.1"),
  /** The address of the dispatchers as others reach it, for links in replies; without a slash at its end. */
  LONGSHORE_PUBLIC_URL: z
    .url({ protocol: /^https?$/, error: "an http or https address" })
    .transform((url) => url.replace(/\/+$/, ""))
    .optional(),
  /** Of every process' metrics and health; 0: a free one. */
  METRICS_PORT: port.prefault("9464"),
  METRICS_HOST: z.string().min(1).default("127.0.0.1"),
  LONGSHORE_PLACES: wholeNumber(1, 10_000).optional(),
  LONGSHORE_RUN_DIR: z
    .string()
    .regex(/^\//, { error: "an absolute path" })
    .default(() => join(tmpdir(), "longshore")),
  LONGSHORE_WORKER_ID: z
    .string()
    .regex(/^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/, { error: "1 to 64 of a-z, A-Z, 0-9, '_' and '-'" })
    .optional(),
});
export type Environment = z.output<typeof environmentSchema>;

/** The one place where addresses and secrets are read; throws `InvalidConfigurationError`. */
export function readEnvironment(variables: NodeJS.ProcessEnv): Environment {
  const result = environmentSchema.safeParse(variables);
  if (result.success) return result.data;
  // An address may hold a password: what was given is not repeated.
  const isSecretPlace = (name: string) => /URL|ENDPOINT|_HOST$/.test(name);
  throw new InvalidConfigurationError(
    "The environment",
    describeIssues(result.error, variables, { isSecretPlace }),
  );
}

/** The values of the environment that no log line may contain. */
export function environmentSecrets(variables: NodeJS.ProcessEnv): string[] {
  const passwords = variables.REDIS_URL === undefined ? [] : redisSecrets(variables.REDIS_URL);
  const keys = [variables.AWS_SECRET_ACCESS_KEY, variables.AWS_SESSION_TOKEN].filter(
    (value) => value !== undefined,
  );
  return [...passwords, ...keys];
}
