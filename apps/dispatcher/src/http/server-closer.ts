import type { ServerResponse } from "node:http";
import type { Api } from "./route-parts.ts";

const LOOK_MS = 50;
/** How long requests in hand may take, in ms, before their connections are cut. */
const GRACE_MS = 10_000;

/**
 * Ends an HTTP server in order. Node.js ends only connections that are idle when it begins to close: one that
 * was busy then, or on which no request has come yet (as browsers open them), would hold it for minutes.
 */
export class ServerCloser {
  readonly #app: Api;
  #answering = 0;

  /** Counts from now on: to be made before the server listens. */
  constructor(app: Api) {
    this.#app = app;
    app.server.on("request", (_request: unknown, response: ServerResponse) => {
      this.#answering += 1;
      response.once("close", () => {
        this.#answering -= 1;
      });
    });
  }

  /** No new connections; what is being answered is answered, for `GRACE_MS` at most. */
  async close(): Promise<void> {
    const { server } = this.#app;
    const look = setInterval(() => {
      if (this.#answering === 0) server.closeAllConnections();
      else server.closeIdleConnections();
    }, LOOK_MS);
    const late = setTimeout(() => server.closeAllConnections(), GRACE_MS);
    try {
      await this.#app.close();
    } finally {
      clearInterval(look);
      clearTimeout(late);
    }
  }
}
