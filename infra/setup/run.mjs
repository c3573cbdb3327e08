// The door of `npm test`, `npm run test:chaos`, `npm run fuzz`, `npm run bench`, `npm run demo` and `npm run dev`, for whatever
// Node.js the machine has: brings node_modules up to the lock file, then goes on in main.ts with the Node.js that is
// among them. Plain JavaScript without dependencies for that reason.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const node = join(root, "node_modules/node/bin/node");

if (!isInstalled()) {
  console.error("longshore: installing npm packages");
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", process.stderr, process.stderr],
  });
  if (status !== 0 || !isInstalled()) {
    console.error("longshore: `npm ci` did not install all packages; its output above says why");
    process.exit(1);
  }
}
goOn();

/**
 * npm notes what it installed once it has finished; comparing that with the lock file finds a new lock
 * file, an interrupted installation and none at all. Optional packages may be for other machines.
 */
function isInstalled() {
  if (!existsSync(node)) {
    return false;
  }
  const locked = packagesOf(join(root, "package-lock.json"));
  const installed = packagesOf(join(root, "node_modules/.package-lock.json"));
  return Object.entries(locked)
    .filter(([path, entry]) => path.startsWith("node_modules/") && !entry.link && !entry.optional)
    .every(([path, entry]) => installed[path]?.version === entry.version);
}

function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages;
  } catch (error) {
    if (error.code === "ENOENT") {
      return {};
    }
    throw error;
  }
}

function goOn() {
  const child = spawn(node, [join(root, "infra/setup/main.ts"), ...process.argv.slice(2)], {
    // The channel says nothing: it breaks when this process dies, and main.ts then ends what it started.
    stdio: ["inherit", "inherit", "inherit", "ipc"],
    env: { ...process.env, PATH: join(root, "node_modules/.bin") + delimiter + process.env.PATH },
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    // main.ts ends everything in order and then itself; that ends this process too.
    process.on(signal, () => child.kill(signal));
  }
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
