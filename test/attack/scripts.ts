/** What attacks print when they got what they wanted. */
export const TAKEN = "TAKEN";

/** Tries to connect to each host and port and waits for the word that it has for whoever reaches it. */
export function reachScript(targets: readonly (readonly [host: string, port: number])[]): string {
  return `
    const { connect } = require("node:net");
    let left = ${targets.length};
    for (const [host, port] of ${JSON.stringify(targets)}) {
      const socket = connect({ host, port });
      const over = () => { socket.destroy(); if (--left === 0) process.exit(0); };
      socket.setTimeout(3000, () => socket.destroy());
      socket.on("data", (data) => console.log("${TAKEN}", host, port, String(data)));
      socket.on("error", () => undefined);
      socket.on("close", over);
    }`;
}

/** Sends each text to the egress port on a connection of its own and looks for a word in all that comes back. */
export function egressScript(requests: readonly (readonly string[])[], word: string): string {
  return `
    const { connect } = require("node:net");
    (async () => {
      for (const [index, texts] of ${JSON.stringify(requests)}.entries()) {
        let seen = "";
        await new Promise((resolve) => {
          const socket = connect({ host: "127.0.0.1", port: 3128 });
          socket.setTimeout(3000, () => socket.destroy());
          const left = [...texts];
          const send = () => { if (left.length > 0) socket.write(left.shift()); };
          socket.on("connect", send);
          socket.on("data", (data) => { seen += data; send(); });
          socket.on("error", () => undefined);
          socket.on("end", () => socket.end());
          socket.on("close", resolve);
        });
        if (seen.includes(${JSON.stringify(word)})) console.log("${TAKEN}", index);
      }
    })();`;
}

/** Looks for a word in whatever can be read: the environment and command line of every process, and files. */
export function searchScript(word: string): string {
  // Does not match itself, as the script stands in command lines too.
  const pattern = `${word.slice(0, -1)}[${word.slice(-1)}]`;
  return `
    for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do
      grep -qsa '${pattern}' "$file" && echo "${TAKEN} $file"
    done
    env | grep -q '${pattern}' && echo "${TAKEN} the environment"
    find / -xdev \\( -path /proc -o -path /sys -o -path /usr -o -path /dev \\) -prune -o -type f -size -1000k -print0 2>/dev/null |
      xargs -0 grep -lsa '${pattern}' 2>/dev/null | sed 's/^/${TAKEN} /'
    find /session /tmp /.longshore -type f -exec grep -lsa '${pattern}' {} + 2>/dev/null | sed 's/^/${TAKEN} /'
    echo searched`;
}

/** Looks for sockets everywhere below some directories and tells what each has to say to a request. */
export function socketScript(directories: readonly string[], own: readonly string[]): string {
  return `
    const { readdirSync } = require("node:fs");
    const { connect } = require("node:net");
    const found = [];
    const look = (path, depth) => {
      let entries = [];
      try { entries = readdirSync(path, { withFileTypes: true }); } catch {}
      for (const entry of entries) {
        const below = path + "/" + entry.name;
        if (entry.isSocket()) found.push(below);
        else if (entry.isDirectory() && depth > 0) look(below, depth - 1);
      }
    };
    for (const directory of ${JSON.stringify(directories)}) look(directory, 6);
    const known = ${JSON.stringify(own)};
    const others = [...found, ...known];
    let left = others.length;
    if (left === 0) process.exit(0);
    for (const path of others) {
      const socket = connect(path);
      socket.setTimeout(3000, () => socket.destroy());
      socket.on("connect", () => socket.write("GET / HTTP/1.1\\r\\n\\r\\n"));
      socket.on("data", (data) => console.log("${TAKEN}", path, String(data)));
      socket.on("error", () => undefined);
      socket.on("close", () => { if (--left === 0) process.exit(0); });
    }`;
}

/**
 * Swaps a directory with a link to another place and back, some microseconds in each state, and makes it anew where the
 * worker removed it; prints `ready`.
 */
export function swapScript(victim: string, place: string): string {
  return `
    const fs = require("node:fs");
    const [victim, place] = ${JSON.stringify([victim, place])};
    const fill = () => {
      fs.mkdirSync(victim + "/d", { recursive: true });
      for (const name of ["secret", "bait"]) fs.writeFileSync(victim + "/" + name, name);
    };
    const attempt = (operation) => { try { operation(); } catch {} };
    const dwell = () => { for (const end = process.hrtime.bigint() + 200_000n; process.hrtime.bigint() < end; ); };
    fill();
    fs.symlinkSync(place, victim + ".link");
    process.stdout.write("ready");
    for (let round = 0; ; round++) {
      attempt(() => fs.renameSync(victim, victim + ".dir"));
      attempt(() => fs.renameSync(victim + ".link", victim));
      dwell();
      attempt(() => fs.renameSync(victim, victim + ".link"));
      attempt(() => fs.renameSync(victim + ".dir", victim));
      if (round % 100 === 0) attempt(fill);
      dwell();
    }`;
}
