import { randomBytes } from "node:crypto";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Fleet, required } from "../../support/fleet.ts";
import { describeWarm, ready, textOf, took } from "./describe-warm.ts";

/** Agents by the state of a host file that they see: `doomed` ones start up, and die when a session is opened. */
const FICKLE = `
  if [ "$(cat "$MODE")" = doomed ]; then
    exec /usr/local/bin/node -e '
      require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
        const { id, method } = JSON.parse(line);
        if (method !== "initialize") process.exit(3);
        console.log(JSON.stringify({ jsonrpc: "2.0", id, result: { protocolVersion: 1, agentCapabilities: {} } }));
      });'
  fi
  exec /usr/local/bin/node /opt/agent/main.js`;

describeWarm("bwrap");

it("warm sandboxes cost a cold start where they turn out to be dead, and no attempt of the message", async () => {
  const name = `warm-test-${randomBytes(6).toString("hex")}`;
  await using fleet = await Fleet.start();
  // A directory of the agent's root, so that the test can change what the agent sees.
  const modes = join(required("LONGSHORE_TEST_ROOTFS"), "opt/agent", name);
  await mkdir(modes, { mode: 0o755 });
  try {
    await writeFile(join(modes, "mode"), "doomed");
    await fleet.configure({
      warm: 1,
      linger: "0s",
      env: { MODE: `/opt/agent/${name}/mode` },
      command: ["/bin/sh", "-c", FICKLE],
      retry: { attempts: 1 },
    });
    const [{ api }, worker] = await Promise.all([fleet.startDispatcher(), fleet.startWorker()]);
    await ready(worker);
    await writeFile(join(modes, "mode"), "sound");
    expect(await textOf(api, "one", "1", "$ echo served")).toBe("served");
    await worker.line(({ msg }) => msg === "a warm sandbox could not be used; starting a cold one");
    await ready(worker, 2);
    expect(await textOf(api, "two", "1", "$ echo warm again")).toBe("warm again");
    expect(took(worker)).toBe(2);
  } finally {
    await rm(modes, { recursive: true, force: true });
  }
});
