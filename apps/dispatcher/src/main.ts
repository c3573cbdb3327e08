import { setTimeout as sleep } from "node:timers/promises";
import {
  ConfigurationSource,
  createLogger,
  environmentSecrets,
  InvalidConfigurationError,
  type Logger,
  LongshoreError,
  readEnvironment,
  redactUrls,
  shutdownSignal,
} from "@longshore/shared";
import { type Dispatcher, startDispatcher } from "./dispatcher.ts";

/** How long an orderly end may take, in ms; what is unfinished then is as safe as after a crash. */
const CLOSE_TIMEOUT_MS = 30_000;

/** The process of a dispatcher: from the environment and the configuration file until SIGTERM. */
async function main(): Promise<void> {
  const signal = shutdownSignal();
  const environment = readEnvironment(process.env);
  // The logger comes before the configuration's reloads and after its first secrets.
  let log: Logger | undefined;
  const source = new ConfigurationSource({
    path: environment.LONGSHORE_CONFIG,
    environment: process.env,
    onReload: () => log?.info("configuration reloaded"),
    onRefused: (error) => log?.error({ err: error }, "configuration refused; the old one stays"),
  });
  source.secrets.add(environmentSecrets(process.env));
  log = createLogger({ name: "dispatcher", level: environment.LOG_LEVEL, secrets: source.secrets });
  source.watch();

  const dispatcher = await startDispatcher({ environment, configuration: () => source.current, log, signal });
  log.info({ url: dispatcher.url, metricsUrl: dispatcher.metricsUrl }, "dispatcher ready");
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
  log.info("dispatcher stops");
  source.close();
  await close(dispatcher, log);
  log.info("dispatcher stopped");
}

async function close(dispatcher: Dispatcher, log: Logger): Promise<void> {
  const late = sleep(CLOSE_TIMEOUT_MS, "late", { ref: false });
  const outcome = await Promise.race([dispatcher.close().then(() => "closed"), late]);
  if (outcome === "late") log.warn({ timeoutMs: CLOSE_TIMEOUT_MS }, "not everything ended in time");
}

try {
  await main();
  process.exit(0);
} catch (error) {
  // What an operator can mend is said in its own words; the stack is for defects.
  const known = error instanceof InvalidConfigurationError || error instanceof LongshoreError;
  const text = known ? error.message : String(error instanceof Error ? error.stack : error);
  process.stderr.write(`${redactUrls(text)}\n`);
  process.exit(1);
}
