import { readFileSync, unwatchFile, watchFile } from "node:fs";
import { dirname, resolve } from "node:path";
import { type Document, LineCounter, parseDocument } from "yaml";
import { describeIssues } from "./configuration-problems.ts";
import { type Configuration, configurationSchema } from "./configuration-schema.ts";
import { LongshoreError } from "./errors.ts";
import { KnownSecrets } from "./known-secrets.ts";

/** How often the file is looked at for a change, in ms: mounted ConfigMaps are links that change without an event. */
const FILE_CHECK_MS = 2_000;

/** The configuration can't be used. One line per problem: where, what was given, what is allowed. */
export class InvalidConfigurationError extends LongshoreError {
  readonly problems: readonly string[];
  constructor(source: string, problems: readonly string[], cause?: unknown) {
    super(
      "INVALID_CONFIGURATION",
      [`${source} is not valid:`, ...problems.map((line) => `  ${line}`)].join("\n"),
      {
        cause,
      },
    );
    this.problems = problems;
  }
}

/** Places whose value may be a secret that was written into the file itself. */
const SECRET_PLACE = /secret|key|hash|token|password|value|env|upstream/i;

interface Substituted {
  readonly value: unknown;
  readonly secrets: readonly string[];
}

/** Puts in `${VAR}` and `file:PATH` (relative to the file's directory), and collects what came in so. */
function substitute(
  document: unknown,
  directory: string,
  environment: NodeJS.ProcessEnv,
  problems: string[],
): Substituted {
  const secrets: string[] = [];
  const visit = (value: unknown, path: readonly string[]): unknown => {
    if (Array.isArray(value)) return value.map((item, index) => visit(item, [...path, String(index)]));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, visit(item, [...path, key])]),
      );
    }
    if (typeof value !== "string") return value;
    const where = path.join(".");
    const [first, , third, variable] = path;
    const plainAgentVariable =
      first === "agents" && third === "env" && variable !== undefined && path.length === 4;
    const bringIn = (secret: string): string => {
      if (plainAgentVariable) {
        problems.push(
          `${where}: given a secret; allowed: { value: ..., visible: true }, since the agent will see it`,
        );
        // Said once is enough.
        return "";
      }
      secrets.push(secret);
      return secret;
    };
    if (value.startsWith("file:")) {
      try {
        return bringIn(readFileSync(resolve(directory, value.slice("file:".length)), "utf8").trimEnd());
      } catch (error) {
        problems.push(
          `${where}: given ${JSON.stringify(value)}; allowed: a readable file (${(error as Error).message})`,
        );
        return value;
      }
    }
    return value.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (reference, name: string) => {
      const secret = environment[name];
      if (secret !== undefined) return bringIn(secret);
      problems.push(`${where}: given ${reference}; allowed: a variable that is set`);
      return reference;
    });
  };
  return { value: visit(document, []), secrets };
}

export interface LoadedConfiguration {
  readonly configuration: Configuration;
  /** Every value that `${VAR}` or `file:` brought in, for the logger to keep out of its lines. */
  readonly secrets: readonly string[];
}

/** Parses and validates a configuration's text; throws `InvalidConfigurationError` with every problem. */
export function parseConfiguration(
  text: string,
  { path, environment }: { readonly path: string; readonly environment: NodeJS.ProcessEnv },
): LoadedConfiguration {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, uniqueKeys: true });
  if (document.errors.length > 0) {
    throw new InvalidConfigurationError(
      path,
      document.errors.map(
        ({ pos, message }) => `line ${lineCounter.linePos(pos[0]).line}: ${message.split("\n")[0]}`,
      ),
    );
  }
  const problems: string[] = [];
  const { value, secrets } = substitute(
    resolveAliases(document, path),
    dirname(resolve(path)),
    environment,
    problems,
  );
  const result = configurationSchema.safeParse(value);
  if (!result.success) {
    const isSecretPlace = (where: string) => SECRET_PLACE.test(where);
    problems.push(...describeIssues(result.error, value, { secrets, isSecretPlace }));
  }
  if (problems.length > 0 || !result.success) throw new InvalidConfigurationError(path, problems);
  for (const agent of Object.values(result.data.agents)) {
    if (agent.home !== undefined) agent.home = resolve(dirname(resolve(path)), agent.home);
  }
  return { configuration: result.data, secrets };
}

/** The document as plain values; an alias without its anchor, or a bomb of aliases, is found only here. */
function resolveAliases(document: Document, path: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    throw new InvalidConfigurationError(path, [(error as Error).message], error);
  }
}

/** Reads the configuration file; throws `InvalidConfigurationError`, also where it can't be read. */
export function loadConfiguration(path: string, environment: NodeJS.ProcessEnv): LoadedConfiguration {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new InvalidConfigurationError(
      path,
      [`the whole: given ${(error as Error).message}; allowed: a readable file`],
      error,
    );
  }
  return parseConfiguration(text, { path, environment });
}

export interface ConfigurationSourceOptions {
  readonly path: string;
  readonly environment: NodeJS.ProcessEnv;
  /** A new file was read; `current` is it already. */
  readonly onReload?: (configuration: Configuration) => void;
  /** A new file was refused; the old configuration stays. */
  readonly onRefused?: (error: InvalidConfigurationError) => void;
}

/** The configuration in force: read at once, and again on SIGHUP and when the file changes. */
export class ConfigurationSource {
  readonly #options: ConfigurationSourceOptions;
  /** Of all files so far, for the process' logger. */
  readonly secrets = new KnownSecrets();
  #current: Configuration;

  constructor(options: ConfigurationSourceOptions) {
    this.#options = options;
    this.#current = this.#load();
  }

  get current(): Configuration {
    return this.#current;
  }

  /** Its secrets are known before anybody can have read them from it. */
  #load(): Configuration {
    const { configuration, secrets } = loadConfiguration(this.#options.path, this.#options.environment);
    this.secrets.add(secrets);
    return configuration;
  }

  readonly #reload = (): void => {
    try {
      this.#current = this.#load();
      this.#options.onReload?.(this.#current);
    } catch (error) {
      if (!(error instanceof InvalidConfigurationError)) throw error;
      this.#options.onRefused?.(error);
    }
  };

  watch(): void {
    process.on("SIGHUP", this.#reload);
    watchFile(this.#options.path, { interval: FILE_CHECK_MS, persistent: false }, this.#reload);
  }

  close(): void {
    process.off("SIGHUP", this.#reload);
    unwatchFile(this.#options.path, this.#reload);
  }
}
