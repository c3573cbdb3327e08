import { z } from "zod";
import { InvalidConfigurationError } from "./configuration.ts";
import { describeIssues } from "./configuration-problems.ts";

const clientEnvironmentSchema = z.object({
  /** Address of a dispatcher. */
  LONGSHORE_URL: z
    .url({ protocol: /^https?$/, error: "an http or https address" })
    .prefault("http://127.0.0.1:8080"),
  /** A tenant's API key. */
  LONGSHORE_KEY: z.string().min(1, { error: "a key" }).optional(),
  /** A file that holds the key. */
  LONGSHORE_KEY_FILE: z.string().min(1, { error: "a path" }).optional(),
});
export type ClientEnvironment = z.output<typeof clientEnvironmentSchema>;

/** What a client of the HTTP API is told by its environment; throws `InvalidConfigurationError`. */
export function readClientEnvironment(variables: NodeJS.ProcessEnv): ClientEnvironment {
  const result = clientEnvironmentSchema.safeParse(variables);
  if (result.success) return result.data;
  const isSecretPlace = () => true;
  throw new InvalidConfigurationError(
    "The environment",
    describeIssues(result.error, variables, { isSecretPlace }),
  );
}
