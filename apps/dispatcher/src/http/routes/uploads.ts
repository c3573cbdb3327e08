import { isUtf8 } from "node:buffer";
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { pathOf, type SessionRef } from "@longshore/session-store";
import { type OperationPath, PathNotFoundError } from "@longshore/shared";
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import type { SessionOrigin } from "../../session-origin.ts";
import { ApiError } from "../api-error.ts";
import { fileParams, pathEncodingQuery, readRequestPath } from "../file-path.ts";
import {
  acceptedOperationSchema,
  appliedOperationSchema,
  readOrigin,
  runOperation,
  waitQuery,
} from "../operations.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";
import { sessionParams } from "../session-params.ts";
import type { SpooledUpload } from "../upload-spool.ts";

const modeQuery = z
  .string()
  .regex(/^0?[0-7]{3}$/, { error: "three octal digits" })
  .transform((digits) => Number.parseInt(digits, 8));

/**
 * Contents on their way into a session, as they are: bodies of any type. To be registered in a scope of its own, since
 * there even JSON is only bytes.
 */
export function uploadRoutes(app: Api, parts: RouteParts): void {
  const { acceptor, store, configuration, spool, closing } = parts;

  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", async (_request: FastifyRequest, payload: IncomingMessage) => payload);

  /** Takes a body in, up to what its session may hold at all. */
  const receive = async (request: FastifyRequest, { agent }: SessionOrigin): Promise<SpooledUpload> => {
    await acceptor.assertRoom(tenantOf(request));
    const limitBytes = configuration().agents[agent]?.limits.disk ?? 0;
    const announced = request.raw.headers["content-length"];
    return await spool.receive(request.body instanceof Readable ? request.body : Readable.from([]), {
      limitBytes,
      announcedBytes: announced === undefined ? undefined : Number(announced),
    });
  };

  app.put(
    "/v1/sessions/:sessionId/uploads/:sha256",
    {
      config: { scope: "operate" },
      schema: {
        summary: "Upload content for a push, by its SHA-256",
        description: "Kept for a day at least; sent again, it is stored once.",
        params: sessionParams.extend({
          sha256: z.string().regex(/^[0-9a-f]{64}$/, { error: "64 hexadecimal digits" }),
        }),
        response: {
          200: z.object({ sha256: z.string(), sizeBytes: z.int() }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const signal = requestSignal(reply, closing);
      const origin = await readOrigin(parts, ref, signal);
      await using upload = await receive(request, origin);
      if (upload.sha256 !== request.params.sha256)
        throw new ApiError(422, "DIGEST_MISMATCH", `The content's SHA-256 is ${upload.sha256}`);
      return await store.putInbound(ref, upload.content, signal);
    },
  );

  app.put(
    "/v1/sessions/:sessionId/files/*",
    {
      config: { scope: "operate" },
      schema: {
        summary: "Put a file into a session, in order with its messages",
        description:
          "The body is the content. Directories on the way are made. A live session has the file before its next " +
          "prompt. The answer comes when it is committed: 201 where the file is new, 204 where it was replaced; or " +
          "after `wait` seconds, with 202. With the same `Idempotency-Key` it is one request, however often it is sent.",
        params: fileParams,
        querystring: z.strictObject({
          wait: waitQuery,
          encoding: pathEncodingQuery,
          /** Permission bits, three octal digits; 644 by default. */
          mode: modeQuery.optional(),
          modifiedAt: z.iso.datetime({ offset: true }).optional(),
        }),
        response: {
          201: appliedOperationSchema,
          202: acceptedOperationSchema,
          204: z.undefined(),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const { wait, encoding, mode, modifiedAt } = request.query;
      const path = readRequestPath(request.params["*"], encoding);
      const signal = requestSignal(reply, closing);
      const origin = await readOrigin(parts, ref, signal);
      await using upload = await receive(request, origin);
      const { sha256, sizeBytes } = await store.putInbound(ref, upload.content, signal);
      const file = {
        ...{ path: operationPath(path), sha256, sizeBytes },
        ...(mode === undefined ? {} : { mode }),
        ...(modifiedAt === undefined ? {} : { modifiedAt }),
      };
      const operation = { type: "upload" as const, set: [file], remove: [] };
      const { generation, ...accepted } = await runOperation(
        parts,
        { request, reply },
        ref,
        origin,
        operation,
        wait,
      );
      if (generation === undefined) return reply.code(202).send(accepted);
      reply.header("longshore-generation", String(generation));
      if (await wasThere(ref, generation, path, signal)) return reply.code(204).send();
      return reply.code(201).send({ ...accepted, generation });
    },
  );

  /** Whether there was a file at the path before a generation. */
  const wasThere = async (
    ref: SessionRef,
    generation: number,
    path: string | Buffer,
    signal: AbortSignal,
  ): Promise<boolean> => {
    const { parent } = await store.readCommit(ref, generation, signal);
    if (parent === 0) return false;
    try {
      await store.openFile(ref, await store.readCommit(ref, parent, signal), path, {}, signal);
      return true;
    } catch (error) {
      return !(error instanceof PathNotFoundError);
    }
  };
}

function operationPath(path: string | Buffer): OperationPath {
  const bytes = Buffer.from(pathOf(path), "latin1");
  return isUtf8(bytes) ? bytes.toString("utf8") : { base64: bytes.toString("base64url") };
}
