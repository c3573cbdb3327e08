import {
  type Configuration,
  type Environment,
  InvalidConfigurationError,
  loadConfiguration,
  readEnvironment,
} from "@longshore/shared";
import type { CommandContext } from "../command-context.ts";
import { DoctorError } from "../errors.ts";
import { columns } from "../output.ts";
import { printableLine } from "../printable.ts";
import { type Finding, failed, messageOf, ok } from "./check.ts";
import { checkRedis } from "./redis-check.ts";
import { repairLists } from "./repair-lists.ts";
import { checkSandboxes } from "./sandbox-check.ts";
import { checkStore } from "./store-check.ts";

/**
 * `longshore doctor`: one line per check, with how to mend it; throws `DoctorError` where one failed.
 *
 * @param options.repair also rebuilds the lists of sessions and dead letters, where Redis and the store are in order
 */
export async function doctor(
  context: CommandContext,
  options: { readonly repair?: boolean } = {},
): Promise<void> {
  const { output, environment: variables, clock } = context;
  const [environmentFindings, environment] = attempt("environment", () => readEnvironment(variables));
  const findings = [ok("node", process.version), ...environmentFindings];
  if (environment !== undefined) {
    const [configurationFindings, configuration] = checkConfiguration(environment, variables);
    findings.push(...configurationFindings);
    // Side by side: each waits for another machine.
    const [redis, store, sandboxes] = await Promise.all([
      checkRedis(environment.REDIS_URL, configuration?.durability ?? "local"),
      checkStore(environment, clock),
      checkSandboxes(environment, configuration),
    ]);
    findings.push(...redis, ...store, ...sandboxes);
    if (options.repair && configuration !== undefined)
      findings.push(...(await repair(context, environment, configuration, [...redis, ...store])));
  }
  output.result(findings, () => columns(findings.map(rowOf)));
  const failures = findings.filter(({ status }) => status === "failed").length;
  if (failures > 0) throw new DoctorError(failures);
}

async function repair(
  context: CommandContext,
  environment: Environment,
  configuration: Configuration,
  needed: readonly Finding[],
): Promise<Finding[]> {
  if (needed.some(({ check, status }) => status === "failed" && check !== "redis durability"))
    return [
      failed("lists", "not repaired, since Redis or the object store is not in order", "mend them first"),
    ];
  return await repairLists(context, environment, configuration).catch((error: unknown) => {
    context.signal.throwIfAborted();
    return [failed("lists", `not repaired: ${messageOf(error)}`, "run it again")];
  });
}

function checkConfiguration(
  environment: Environment,
  variables: NodeJS.ProcessEnv,
): [Finding[], Configuration | undefined] {
  const path = environment.LONGSHORE_CONFIG;
  const [findings, loaded] = attempt("configuration", () => loadConfiguration(path, variables));
  if (loaded === undefined) return [findings, undefined];
  const { agents, tenants } = loaded.configuration;
  const names = (group: object) => Object.keys(group).join(", ") || "none";
  return [
    [ok("configuration", `${path}: tenants ${names(tenants)}; agents ${names(agents)}`)],
    loaded.configuration,
  ];
}

/** A finding for each problem that reading something has. */
function attempt<T>(check: string, read: () => T): [Finding[], T | undefined] {
  try {
    return [[ok(check, "valid")], read()];
  } catch (error) {
    if (!(error instanceof InvalidConfigurationError)) throw error;
    return [
      error.problems.map((problem) => {
        const [detail = problem, allowed = "see docs/configuration.md"] = problem.split("; allowed: ");
        return failed(check, detail, allowed);
      }),
      undefined,
    ];
  }
}

function rowOf({ check, status, detail, mend }: Finding): string[] {
  return [status, check, printableLine(mend === undefined ? detail : `${detail} — ${mend}`)];
}
