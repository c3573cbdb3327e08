import type { ndJsonStream } from "@agentclientprotocol/sdk";

type MessageStream = ReturnType<typeof ndJsonStream>;
type Message = MessageStream extends { readonly readable: ReadableStream<infer M> } ? M : never;

/** Answers that may wait for an agent to read them; one that asks on without reading is cut off. */
const UNREAD_ANSWERS_MAX = 256;

/** An agent asked more and more, and did not read what it was answered. */
class UnreadAnswersError extends Error {
  override readonly name = "UnreadAnswersError";
  constructor() {
    super(`The agent left more than ${UNREAD_ANSWERS_MAX} answers unread`);
  }
}

/**
 * Bounds what an agent can make the worker keep and log (I11). The SDK answers each request, and all that is no
 * message, by a queue without a bound, which an agent that never reads its input fills with the worker's memory;
 * and it prints each response that nobody asked for, with an id as long as the agent likes. So the stream
 * fails beyond a number of unread answers, and such responses are left out.
 */
export function boundAnswers(stream: MessageStream): MessageStream {
  const asked = new Set<unknown>();
  let unread = 0;
  const reader = stream.readable.getReader();
  /** Whether a message is passed on. */
  const counts = (message: Message): boolean => {
    if ("method" in message) {
      if ("id" in message && ++unread > UNREAD_ANSWERS_MAX) throw new UnreadAnswersError();
    } else if ("id" in message) {
      return asked.delete(message.id);
    } else if (++unread > UNREAD_ANSWERS_MAX) throw new UnreadAnswersError();
    return true;
  };
  const readable = new ReadableStream<Message>({
    async pull(controller) {
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return controller.close();
          if (counts(value)) return controller.enqueue(value);
        }
      } catch (error) {
        void reader.cancel(error).catch(() => undefined);
        throw error;
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  const writable = new WritableStream<Message>({
    async write(message) {
      const isAnswer = !("method" in message);
      if (!isAnswer && "id" in message) asked.add(message.id);
      const writer = stream.writable.getWriter();
      try {
        await writer.write(message);
      } finally {
        writer.releaseLock();
      }
      if (isAnswer) unread--;
    },
  });
  return { readable, writable };
}
