import { createBullBoard } from "@bull-board/api";
import { BullMQAdapter } from "@bull-board/api/bullMQAdapter";
import { FastifyAdapter } from "@bull-board/fastify";
import type { Queue } from "bullmq";
import type { FastifyPluginCallback } from "fastify";

export interface QueueBoardOptions {
  readonly inbound: Queue;
  readonly turns: Queue;
  readonly replies: Queue;
}

/**
 * bull-board. Jobs of `turns` and `replies` are wakes and must not be touched (a manual retry of a turn runs a
 * session twice: seen); a failed job of `inbound` is a message that was refused, and may be tried again.
 */
export class QueueBoard {
  readonly #queues: QueueBoardOptions;

  constructor(queues: QueueBoardOptions) {
    this.#queues = queues;
  }

  plugin(basePath: string): FastifyPluginCallback {
    const { inbound, turns, replies } = this.#queues;
    const server = new FastifyAdapter().setBasePath(basePath);
    createBullBoard({
      queues: [
        new BullMQAdapter(inbound),
        new BullMQAdapter(turns, { readOnlyMode: true }),
        new BullMQAdapter(replies, { readOnlyMode: true }),
      ],
      serverAdapter: server,
    });
    return server.registerPlugin();
  }
}
