import { Readable } from "node:stream";
import {
  type AgentDefinition,
  hasCredentials,
  InvalidMessageError,
  MessageTooLargeError,
} from "@longshore/shared";
import { AttachmentFetchError } from "./errors.ts";
import { ApiError } from "./http/api-error.ts";
import type { SpooledUpload, UploadSpool } from "./http/upload-spool.ts";
import type { NamedAttachment, WholeAttachment } from "./incoming-attachments.ts";

/**
 * How long those of a message may take together, redirects and all, in ms. A job of `inbound` holds the ones behind it up
 * for so long.
 */
const TIMEOUT_MS = 30_000;
const REDIRECTS_MAX = 5;
const MEDIA_TYPE = /^[\w.+-]+\/[\w.+-]+(?:\s*;.*)?$/;
const CONTENT_TYPE_MAX_CHARACTERS = 255;

/** An attachment that its server gave whole. Its disposal frees the disk. */
interface FetchedAttachment extends AsyncDisposable {
  readonly upload: SpooledUpload;
  /** As the server says. */
  readonly contentType: string | undefined;
}

interface FetchOptions {
  /** Which attachment of its message it is. */
  readonly index: number;
  /** Where it may come from, as `URL.origin` gives it, redirects included. */
  readonly origins: readonly string[];
  /** What there is room for, of the bytes that a message's attachments may have together. */
  readonly roomBytes: number;
  readonly limitBytes: number;
  readonly signal: AbortSignal;
  /** When the time for the whole message is over. */
  readonly timeout: AbortSignal;
}

/**
 * Gets attachments that messages name by `url`, from servers that the operator named: a sender can make the dispatcher
 * ask nobody else. A URL may hold a secret, so none of them gets into an error.
 */
export class AttachmentSource {
  readonly #spool: UploadSpool;

  constructor(spool: UploadSpool) {
    this.#spool = spool;
  }

  /**
   * Those that are named by a URL, got from there, and the others as they are. One after another, so that what they may
   * have together is known.
   *
   * @param fetched frees the disk that they take
   * @throws InvalidMessageError where the server has no such file, or sends elsewhere; MessageTooLargeError;
   *   AttachmentFetchError where the server is in trouble, or there is no disk for it now
   */
  async fetchAll(
    attachments: readonly NamedAttachment[],
    { attachmentOrigins: origins, limits: { attachmentBytes: limitBytes } }: AgentDefinition,
    signal: AbortSignal,
    fetched: AsyncDisposableStack,
  ): Promise<WholeAttachment[]> {
    let roomBytes = limitBytes - attachments.reduce((sum, { bytes }) => sum + (bytes?.length ?? 0), 0);
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const whole: WholeAttachment[] = [];
    for (const [index, { name, contentType, saysType, bytes, url }] of attachments.entries()) {
      if (url === undefined) {
        whole.push({ name, contentType, content: bytes });
        continue;
      }
      const options = { index, origins, roomBytes, limitBytes, signal, timeout };
      const { upload, ...got } = fetched.use(await this.#fetch(url, options));
      roomBytes -= upload.content.sizeBytes;
      whole.push({
        name,
        contentType: saysType ? contentType : (got.contentType ?? contentType),
        content: upload.content,
      });
    }
    return whole;
  }

  async #fetch(
    url: string,
    { index, origins, roomBytes, limitBytes, signal, timeout }: FetchOptions,
  ): Promise<FetchedAttachment> {
    const refuse = (problem: string) =>
      new InvalidMessageError([{ where: `attachments.${index}.url`, problem }]);
    const ended = AbortSignal.any([signal, timeout]);
    try {
      let response = await request(url, ended);
      let from = url;
      for (let redirects = 0; isRedirect(response); redirects++) {
        await response.body?.cancel();
        const next = URL.parse(response.headers.get("location") ?? "", from);
        const isAllowed = next !== null && origins.includes(next.origin) && !hasCredentials(next);
        if (!isAllowed || redirects === REDIRECTS_MAX)
          throw refuse(
            "a file that its server has, which sends elsewhere than the agent's `attachmentOrigins`",
          );
        from = next.href;
        response = await request(from, ended);
      }
      if (response.status !== 200) {
        await response.body?.cancel();
        if (response.status >= 500 || response.status === 429)
          throw new AttachmentFetchError(index, `its server answered ${response.status}`);
        throw refuse(`a file that its server gives, which answered ${response.status}`);
      }
      const announced = response.headers.get("content-length");
      const body = response.body === null ? Readable.from([]) : Readable.fromWeb(response.body);
      // It may break off before anybody reads it, who is told then.
      body.on("error", () => undefined);
      const upload = await this.#spool
        .receive(body, {
          limitBytes: roomBytes,
          announcedBytes: announced === null ? undefined : Number(announced),
        })
        .finally(() => body.destroy());
      const type = response.headers.get("content-type") ?? "";
      return {
        upload,
        contentType: MEDIA_TYPE.test(type) && type.length <= CONTENT_TYPE_MAX_CHARACTERS ? type : undefined,
        [Symbol.asyncDispose]: () => upload[Symbol.asyncDispose](),
      };
    } catch (error) {
      signal.throwIfAborted();
      if (timeout.aborted)
        throw new AttachmentFetchError(index, `the attachments took longer than ${TIMEOUT_MS} ms`, error);
      if (error instanceof InvalidMessageError || error instanceof AttachmentFetchError) throw error;
      if (error instanceof ApiError && error.code === "BODY_TOO_LARGE")
        throw new MessageTooLargeError("attachments", undefined, limitBytes, "bytes");
      if (error instanceof ApiError && error.code === "BUSY")
        throw new AttachmentFetchError(index, "the dispatcher has no room for it now", error);
      throw new AttachmentFetchError(index, "its server could not be reached, or broke off", error);
    }
  }
}

function isRedirect({ status }: Response): boolean {
  return [301, 302, 303, 307, 308].includes(status);
}

async function request(url: string, signal: AbortSignal): Promise<Response> {
  // As it is: what is unpacked would have another size than its server says.
  return await fetch(url, { redirect: "manual", headers: { "accept-encoding": "identity" }, signal });
}
