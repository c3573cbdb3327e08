import { defineConfig } from "vitest/config";

/** A machine that does much else takes its time: what a test waits for is to come, not to come soon. */
const patience = {
  testTimeout: 120_000,
  hookTimeout: 120_000,
  expect: { poll: { timeout: 60_000 } },
};

/**
 * `unit` needs nothing but Node.js; `integration` needs the real Redis, S3 server and engines that
 * `npm test` starts (infra/setup) and names in the environment.
 */
export default defineConfig({
  test: {
    // Most of a test's time is waiting (leases, starts of processes); more at once would starve the machine.
    maxWorkers: 3,
    projects: [
      {
        test: {
          ...patience,
          name: "unit",
          include: [
            "packages/*/src/**/*.test.ts",
            "apps/*/src/**/*.test.ts",
            "infra/setup/*.test.ts",
            "test/bench/*.test.ts",
            "test/chaos/checker/*.test.ts",
          ],
        },
      },
      {
        test: {
          ...patience,
          name: "integration",
          include: ["test/**/*.test.ts"],
          exclude: ["test/bench/*.test.ts", "test/chaos/checker/*.test.ts"],
        },
      },
    ],
  },
});
