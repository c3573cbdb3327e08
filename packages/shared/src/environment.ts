import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { describeIssues, InvalidConfigurationError } from "./configuration.ts";

const port = z.coerce.number({ error: "a port number" }).int().min(0).max(65_535);
const flag = z
  .enum(["0", "1", "false", "true"], { error: "0, 1, false or true" })
  .transform((text) => text === "1" || text === "true");

const environmentSchema = z.object({
  LONGSHORE_CONFIG: z.string().min(1).default("longshore.yaml"),
  REDIS_URL: z
    .string()
    .regex(/^rediss?:\/\//, { error: "redis://[[user]:password@]host[:port][/database], or rediss://" })
    .default("redis://127.0.0.1:6379"),
  OBJECT_STORE_URL: z.string().regex(/^(s3:\/\/[^/]|file:\/\/\/)/, {
    error: "s3://bucket/prefix or file:///path",
  }),
  S3_ENDPOINT: z.url({ protocol: /^https?$/, error: "an http or https address" }).optional(),
  S3_FORCE_PATH_STYLE: flag.default(false),
  AWS_REGION: z.string().min(1).default("us-east-1"),
  DOCKER_HOST: z
    .string()
    .regex(/^(unix|tcp|http|https):\/\//, { error: "unix:///path or tcp://host:port" })
    .optional(),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  /** Of the dispatcher's API; 0: a free one. */
  PORT: port.default(8080),
  HOST: z.string().min(1).default("127.0.0.1"),
  /** Of every process' metrics and health; 0: a free one. */
  METRICS_PORT: port.default(9464),
  METRICS_HOST: z.string().min(1).default("127.0.0.1"),
  LONGSHORE_PLACES: z.coerce.number({ error: "a number" }).int().min(1).max(10_000).optional(),
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
  const hidden = Object.fromEntries(Object.keys(variables).map((name) => [name, {}]));
  throw new InvalidConfigurationError("The environment", describeIssues(result.error, hidden));
}

/** The values of the environment that no log line may contain. */
export function environmentSecrets(variables: NodeJS.ProcessEnv): string[] {
  const passwords = [variables.REDIS_URL].flatMap((url) => {
    const password = url && URL.canParse(url) ? new URL(url).password : "";
    return password ? [password, decodeURIComponent(password)] : [];
  });
  const keys = [variables.AWS_SECRET_ACCESS_KEY, variables.AWS_SESSION_TOKEN].filter(
    (value) => value !== undefined,
  );
  return [...passwords, ...keys];
}
