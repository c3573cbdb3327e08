import type { Socket } from "node:net";
import { Redis } from "ioredis";

/** Connections that hold back what is written until the event loop goes on. */
const corked = new WeakSet<Socket>();

/** Sends what is asked for at one moment with one write: a system call costs more than many commands do. */
export class GatheringRedis extends Redis {
  override sendCommand(...args: Parameters<Redis["sendCommand"]>): ReturnType<Redis["sendCommand"]> {
    const socket = (this as unknown as { readonly stream?: Socket }).stream;
    if (socket !== undefined && !corked.has(socket)) {
      corked.add(socket);
      socket.cork();
      // After the promises that are settled already, whose callers may send too.
      process.nextTick(() => {
        corked.delete(socket);
        socket.uncork();
      });
    }
    return super.sendCommand(...args);
  }
}
