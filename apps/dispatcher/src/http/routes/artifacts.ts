import { ObjectNotFoundError, type SessionRef } from "@longshore/session-store";
import type { Artifact } from "@longshore/shared";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { ApiError } from "../api-error.ts";
import { readOwnedMessage } from "../owned-message.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";
import { sendContent } from "../send-content.ts";

/** How long a link to an artifact works, in seconds. Above the longest, S3 makes none. */
const LINK_SECONDS = { least: 1, usual: 24 * 3_600, most: 7 * 24 * 3_600 } as const;

const artifactParams = z.object({ messageId: z.string().max(64), artifactId: z.string().max(128) });

/** Files of replies: for who has a key, and by links for who has none. */
export function artifactRoutes(app: Api, parts: RouteParts): void {
  const { store, links, closing } = parts;

  const find = async (
    request: FastifyRequest<{ Params: z.output<typeof artifactParams> }>,
    signal: AbortSignal,
  ): Promise<{ readonly ref: SessionRef; readonly artifact: Artifact }> => {
    const tenant = tenantOf(request);
    const { messageId, artifactId } = request.params;
    const { sessionId, replies } = await readOwnedMessage(parts, tenant, messageId, signal);
    const artifact = replies.flatMap(({ artifacts }) => artifacts).find(({ id }) => id === artifactId);
    if (artifact === undefined) throw noArtifact();
    return { ref: { tenant, sessionId }, artifact };
  };

  const send = async (
    request: FastifyRequest,
    reply: FastifyReply,
    ref: SessionRef,
    artifact: Pick<Artifact, "id" | "name" | "contentType">,
    signal: AbortSignal,
  ): Promise<FastifyReply> => {
    const { id, name, contentType } = artifact;
    const open = (options: Parameters<typeof store.openArtifact>[3]) =>
      store.openArtifact(ref, id, name, { ...options, signal }).catch(refuseArtifact);
    const { sizeBytes } = await open({});
    return await sendContent(request, reply, {
      ...{ name, contentType, sizeBytes },
      // An artifact's id is new for each content.
      entityTag: `"${id}"`,
      read: async (range) => (await open(range === undefined ? {} : { range })).stream(),
    });
  };

  app.route({
    method: ["GET", "HEAD"],
    url: "/v1/messages/:messageId/artifacts/:artifactId",
    config: { scope: "read" },
    schema: {
      summary: "The content of a file of a reply, or a range of it",
      params: artifactParams,
      response: { "4xx": problemSchema, "5xx": problemSchema },
    },
    handler: async (request, reply) => {
      const signal = requestSignal(reply, closing);
      const { ref, artifact } = await find(request, signal);
      return await send(request, reply, ref, artifact, signal);
    },
  });

  app.get(
    "/v1/messages/:messageId/artifacts/:artifactId/link",
    {
      config: { scope: "read" },
      schema: {
        summary: "A link with which anyone may read a file of a reply for a while",
        params: artifactParams,
        querystring: z.strictObject({
          /** How long it works, in seconds. */
          expires: z.coerce
            .number()
            .int()
            .min(LINK_SECONDS.least)
            .max(LINK_SECONDS.most)
            .default(LINK_SECONDS.usual),
        }),
        response: {
          200: z.object({
            /** On this server. */
            path: z.string(),
            /** At the object store itself, where it can make links. */
            storeUrl: z.string().optional(),
            expiresAt: z.string(),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const signal = requestSignal(reply, closing);
      const { ref, artifact } = await find(request, signal);
      const { expires: expiresSeconds } = request.query;
      const { id, name, contentType } = artifact;
      const [{ token, expiresAt }, storeUrl] = await Promise.all([
        links.sign({ ...ref, id, name, contentType }, expiresSeconds),
        store.presignArtifact(ref, id, name, { expiresSeconds, contentType }),
      ]);
      return {
        path: `/artifacts/${token}`,
        ...(storeUrl === undefined ? {} : { storeUrl }),
        expiresAt: expiresAt.toISOString(),
      };
    },
  );

  app.route({
    method: ["GET", "HEAD"],
    url: "/artifacts/:token",
    config: { open: true },
    schema: {
      summary: "A file of a reply, by a link",
      security: [],
      params: z.object({ token: z.string() }),
      response: { "4xx": problemSchema, "5xx": problemSchema },
    },
    handler: async (request, reply) => {
      const linked = await links.verify(request.params.token);
      if (linked === "unknown") throw noArtifact();
      if (linked === "expired") throw new ApiError(410, "LINK_EXPIRED", "The link has expired");
      const { tenant, sessionId, ...artifact } = linked;
      // The address is the permission: it must not be told to what the content links to.
      reply.header("referrer-policy", "no-referrer");
      return await send(request, reply, { tenant, sessionId }, artifact, requestSignal(reply, closing));
    },
  });
}

function refuseArtifact(error: unknown): never {
  if (error instanceof ObjectNotFoundError) throw noArtifact(error);
  throw error;
}

function noArtifact(cause?: unknown): ApiError {
  return new ApiError(404, "ARTIFACT_NOT_FOUND", "There is no such artifact", { cause });
}
