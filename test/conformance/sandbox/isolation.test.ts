import { stat } from "node:fs/promises";
import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { platforms } from "./platforms.ts";
import { processesOf, World } from "./world.ts";

const SEPARATOR = "=====";

const PROBES = {
  writable: `
    for place in / /usr /etc /dev /run /var /proc /sys /home /opt /root; do
      (echo x > $place/probe) 2>/dev/null && echo "wrote $place"
    done
    for place in /session /session/home /session/workspace /tmp /dev/shm; do
      (echo x > $place/probe) 2>/dev/null && echo "may $place"
    done`,
  privileges: "cat /proc/self/status",
  processes: `cat /proc/[0-9]*/comm; kill -0 ${process.pid} 2>/dev/null && echo seen`,
  network: "tail -n +3 /proc/net/dev | cut -d: -f1; echo ---; tail -n +2 /proc/net/route",
  descriptors: "for fd in /proc/$$/fd/*; do [ -e $fd ] && basename $fd; done",
  devices: `
    mknod /session/workspace/null c 1 3 2>/dev/null && echo made
    cp /bin/sh ./sh; chmod 6755 ./sh; ./sh -c 'id -u; id -g'`,
  kernel: `
    (echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo core_pattern
    (echo b > /proc/sysrq-trigger) 2>/dev/null && echo sysrq
    head -c 1 /proc/kcore > /dev/null 2>&1 && echo kcore
    head -c 1 /proc/keys 2>/dev/null | grep -q . && echo keys
    unshare -r true 2>/dev/null && echo userns
    unshare -n true 2>/dev/null && echo netns
    mount -t tmpfs none /tmp 2>/dev/null && echo mount
    chroot /session/home true 2>/dev/null && echo chroot
    ls /var/run/docker.sock /run/docker.sock 2>/dev/null
    echo done`,
};

describe.each(platforms)("$name", (platform) => {
  let world: World;
  const isGvisor = platform.name === "docker runsc";
  /** What scripts in a sandbox printed, by test: one sandbox for all of them, since its start takes the time. */
  let printed: Readonly<Record<keyof typeof PROBES, string>>;
  beforeAll(async () => {
    world = await World.open(platform);
    const script = Object.entries(PROBES).map(([name, probe]) => `echo "${SEPARATOR}${name}"\n${probe}`);
    const { stdout } = await world.run(script.join("\n"));
    printed = Object.fromEntries(
      stdout
        .split(SEPARATOR)
        .slice(1)
        .map((section) => [
          section.slice(0, section.indexOf("\n")),
          section.slice(section.indexOf("\n") + 1),
        ]),
    ) as typeof printed;
    expect(Object.keys(printed)).toEqual(Object.keys(PROBES));
  });
  afterAll(() => world.close());

  test("the root is read-only; the session, /tmp and /dev/shm are not", () => {
    expect(printed.writable).toBe(
      "may /session\nmay /session/home\nmay /session/workspace\nmay /tmp\nmay /dev/shm\n",
    );
  });

  test("no capability, no new privileges, a seccomp filter", () => {
    const { privileges } = printed;
    // gVisor does not show the ambient set.
    const sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", ...(isGvisor ? [] : ["CapAmb"])];
    for (const set of sets) {
      expect(privileges).toMatch(new RegExp(`^${set}:\\s+0+$`, "m"));
    }
    // gVisor is the filter itself, and shows none.
    if (!isGvisor) {
      expect(privileges).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(privileges).toMatch(/^Seccomp:\s+2$/m);
    }
  });

  test("it sees its own processes only", () => {
    const names = printed.processes.trim().split("\n");
    expect(names).not.toContain("seen");
    expect(names.length).toBeLessThan(8);
    expect(printed.processes).not.toContain("node");
  });

  test("there is no network but loopback", () => {
    const [interfaces = "", routes = ""] = printed.network.split("---\n");
    expect(interfaces.trim()).toMatch(/^(lo)?$/);
    expect(routes.trim()).toBe("");
  });

  test("the host's loopback ports are not its own", async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const script = `use Socket; socket(S, PF_INET, SOCK_STREAM, 0) or die; connect(S, pack_sockaddr_in(${port}, inet_aton("127.0.0.1"))) and print "connected"`;
    const { stdout } = await world.run(
      `command -v perl > /dev/null && perl -e '${script}' 2>/dev/null; echo done`,
    );
    server.close();
    expect(stdout).toBe("done\n");
    expect(connections).toBe(0);
  });

  test("it inherits no descriptor but the three", () => {
    const descriptors = printed.descriptors.trim().split("\n").map(Number);
    // 10 and above: the shell's own, close-on-exec.
    expect(descriptors.filter((descriptor) => descriptor > 2 && descriptor < 10)).toEqual([]);
  });

  test("device nodes can't be made, set-id bits don't raise", () => {
    expect(printed.devices).not.toContain("made");
    expect(printed.devices.trim().split("\n")).toHaveLength(2);
    expect(printed.devices).not.toMatch(/^0$/m);
  });

  test("two sandboxes have different users of the host and can't reach each other's slot", async () => {
    const specs = [await world.spec(["cat"]), await world.spec(["cat"])];
    const sandboxes = await Promise.all(specs.map((spec) => world.runtime.start(spec)));
    const [one, two] = specs;
    expect(one?.user.uid).not.toBe(two?.user.uid);
    for (const spec of specs) {
      const status = await stat(spec.slotDirectory);
      expect([status.uid, status.mode & 0o777]).toEqual([spec.user.uid, 0o700]);
      // gVisor's processes on the host are its own.
      if (!isGvisor) expect((await processesOf(spec.user.uid)).length).toBeGreaterThan(0);
    }
    await Promise.all(sandboxes.map((sandbox) => sandbox.destroy()));
    for (const spec of specs) expect(await processesOf(spec.user.uid)).toEqual([]);
  });

  test("kernel settings and other processes' memory are out of reach", () => {
    // A user namespace of gVisor is made by its own kernel in its own memory; Podman's weakness is told by `check`.
    const mayBeMade = isGvisor || platform.name === "docker podman";
    expect(printed.kernel.split("\n").filter((word) => !(mayBeMade && word === "userns"))).toEqual([
      "done",
      "",
    ]);
  });
});
