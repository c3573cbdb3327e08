import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { SetupError } from "./errors.ts";

/** Another process may take a free port before its user binds it: so often is a start tried. */
const attempts = 3;

/** As many different TCP ports on loopback, which nobody listened on a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

/** Starts something on free ports, with others when it does not come up. */
export async function onFreePorts<T>(count: number, start: (...ports: number[]) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(...(await freePorts(count)));
    } catch (error) {
      const mayBeThePort = error instanceof SetupError && error.code === "SETUP_SERVICE_FAILED";
      if (!mayBeThePort || attempt === attempts) {
        throw error;
      }
    }
  }
}
