#!/usr/bin/env node
// Plain JavaScript, for whatever Node.js starts it: goes on with the one among the npm packages where this
// one is too old for the sources.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const OLDEST = 24;

if (Number(process.versions.node.split(".")[0]) >= OLDEST) {
  await import("../src/main.ts");
} else {
  const node = fileURLToPath(new URL("../../../node_modules/node/bin/node", import.meta.url));
  if (existsSync(node)) goOn(node);
  else {
    console.error(
      `longshore: needs Node.js ${OLDEST} or newer; run \`npm ci\` in the clone, which brings one`,
    );
    process.exitCode = 1;
  }
}

/** @param {string} node */
function goOn(node) {
  const main = fileURLToPath(new URL("../src/main.ts", import.meta.url));
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: "inherit" });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
