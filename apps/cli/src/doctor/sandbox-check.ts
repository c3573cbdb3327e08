import { hostname } from "node:os";
import { BwrapRuntime, DockerRuntime, type SandboxRuntime, SlotDisks } from "@longshore/sandbox";
import {
  type AgentDefinition,
  type Configuration,
  type Environment,
  executableAnyway,
} from "@longshore/shared";
import { type Finding, failed, messageOf, ok, warning } from "./check.ts";

/** Where a Docker engine listens when nothing else is said. */
const DEFAULT_ENGINE = "unix:///var/run/docker.sock";
const TIMEOUT_MS = 30_000;

const MEND = {
  docker: "start a Docker engine, or name another by DOCKER_HOST",
  bwrap: "install bubblewrap and allow user namespaces",
} as const;

type RuntimeName = SandboxRuntime["name"];

/** Whether this host can start the sandboxes that the agents need; without a configuration, what it could. */
export async function checkSandboxes(
  environment: Environment,
  configuration: Configuration | undefined,
): Promise<Finding[]> {
  const agents = Object.values(configuration?.agents ?? {});
  const ociRuntimes = [...new Set(agents.flatMap(({ ociRuntime }) => ociRuntime ?? []))];
  const host = hostname();
  const runDirectory = environment.LONGSHORE_RUN_DIR;
  const findings = new Map<RuntimeName, Finding[]>();
  for (const name of ["docker", "bwrap"] as const) {
    // Made inside the check: an address that makes no sense is a finding too.
    const open = () =>
      name === "docker"
        ? new DockerRuntime({
            address: environment.DOCKER_HOST ?? DEFAULT_ENGINE,
            host,
            runDirectory,
            requiredRuntimes: ociRuntimes,
          })
        : new BwrapRuntime({ host, runDirectory });
    findings.set(name, await check(name, open));
  }
  return [
    ...[...findings].flatMap(([name, found]) =>
      isNeeded(name, agents, findings) ? found : found.map(asInformation),
    ),
    ...(await checkDisks(
      runDirectory,
      [...findings.keys()].filter((name) => isNeeded(name, agents, findings)),
    )),
    ...checkAccess(configuration),
  ];
}

/** Whether the kernel keeps session directories to their quota. */
async function checkDisks(runDirectory: string, runtimes: readonly RuntimeName[]): Promise<Finding[]> {
  const watched =
    "the worker looks each second at what session directories take, and a fast agent exceeds its quota until then";
  let disks: SlotDisks;
  try {
    disks = await SlotDisks.open(runDirectory);
  } catch (error) {
    return [warning("disk", `${watched}: ${messageOf(error)}`, "run the worker as root, with loop devices")];
  }
  const unseen = runtimes.filter((runtime) => !disks.isSeenBy(runtime));
  return unseen.length === 0
    ? [ok("disk", "each session directory is a file system of its own, no larger than its quota")]
    : [
        warning(
          "disk",
          `${watched}: it is not known that the engine sees what is mounted below ${runDirectory}`,
          `make the mount that it is in shared: mount --make-shared`,
        ),
      ];
}

function checkAccess(configuration: Configuration | undefined): Finding[] {
  return Object.entries(configuration?.agents ?? {}).flatMap(([name, agent]) => {
    const paths = executableAnyway(agent);
    const detail = `nothing keeps the agent ${name} from executing what is in ${paths.join(", ")}`;
    return paths.length === 0
      ? []
      : [warning("access", detail, "only docker's /tmp can forbid it: hide what must not be executed")];
  });
}

async function check(name: RuntimeName, open: () => SandboxRuntime): Promise<Finding[]> {
  try {
    const { version, weaknesses } = await open().check(AbortSignal.timeout(TIMEOUT_MS));
    return [
      ok(name, version),
      ...weaknesses.map((weakness) => {
        const [detail = weakness, ...mend] = weakness.split(": ");
        return warning(name, detail, mend.join(": ") || "see docs/sandbox.md");
      }),
    ];
  } catch (error) {
    return [failed(name, messageOf(error), MEND[name])];
  }
}

/** An agent that says `auto` needs one of the two: docker is told to be missing only where both are. */
function isNeeded(
  name: RuntimeName,
  agents: readonly AgentDefinition[],
  findings: ReadonlyMap<RuntimeName, readonly Finding[]>,
): boolean {
  if (agents.some(({ runtime }) => runtime === name)) return true;
  const other = findings.get(name === "docker" ? "bwrap" : "docker") ?? [];
  const otherWorks = !other.some(({ status }) => status === "failed");
  return agents.some(({ runtime }) => runtime === "auto") && !otherWorks;
}

function asInformation(finding: Finding): Finding {
  return finding.status === "ok"
    ? finding
    : { ...finding, status: "warning", detail: `${finding.detail} (no agent needs it)` };
}
