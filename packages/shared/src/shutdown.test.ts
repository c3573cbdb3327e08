import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, describe, expect, it } from "vitest";

const program = `
  import { shutdownSignal } from ${JSON.stringify(new URL("./shutdown.ts", import.meta.url).href)};
  const signal = shutdownSignal();
  signal.addEventListener("abort", () => console.log(signal.reason.message));
  setInterval(() => {}, 1000);
  console.log("ready");
`;

let child: ChildProcess;
afterEach(() => child.kill("SIGKILL"));

async function nextLine(): Promise<string> {
  const [chunk] = await once(child.stdout as NodeJS.ReadableStream, "data");
  return String(chunk).trim();
}

describe("shutdownSignal", () => {
  it.each([
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const)("fires at the first %s and ends the process at the second", async (name, exitCode) => {
    child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    expect(await nextLine()).toBe("ready");
    child.kill(name);
    expect(await nextLine()).toBe(`received ${name}`);
    expect(child.exitCode).toBeNull();
    child.kill(name);
    expect(await once(child, "exit")).toEqual([exitCode, null]);
  });
});
