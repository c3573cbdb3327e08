import { type FileEntry, textOfPath } from "@longshore/session-store";
import { PathNotFoundError, UnsafePathError } from "@longshore/shared";
import mime from "mime";
import { z } from "zod";
import { ApiError } from "../api-error.ts";
import { entityTagOf } from "../entity-tag.ts";
import { fileParams, generationQuery, pathEncodingQuery, readRequestPath } from "../file-path.ts";
import { checkOwned, readGeneration } from "../owned-session.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";
import { sendContent } from "../send-content.ts";

/** Files of sessions, one by one: reading. */
export function fileContentRoutes(app: Api, { store, access, closing }: RouteParts): void {
  app.route({
    method: ["GET", "HEAD"],
    url: "/v1/sessions/:sessionId/files/*",
    config: { scope: "read" },
    schema: {
      summary: "The content of a file, or a range of it",
      description:
        "The path may be relative, with a leading slash, or absolute below `/session/`. With " +
        "`encoding=base64url` it is the path's bytes, for names that are not UTF-8.",
      params: fileParams,
      querystring: z.strictObject({ generation: generationQuery, encoding: pathEncodingQuery }),
      response: { "4xx": problemSchema, "5xx": problemSchema },
    },
    handler: async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const { generation, encoding } = request.query;
      const path = readRequestPath(request.params["*"], encoding);
      const signal = requestSignal(reply, closing);
      await checkOwned(access, ref, signal);
      const commit = await readGeneration(store, ref, generation, signal);
      if (commit === undefined) throw new ApiError(404, "FILE_NOT_FOUND", "Nothing was committed yet");
      const { entry } = await store.openFile(ref, commit, path, {}, signal).catch(refuseFile);
      reply.header("longshore-generation", String(commit.generation));
      return await sendContent(request, reply, {
        ...describeFile(entry),
        read: async (range) => {
          const options = range === undefined ? {} : { range };
          return (await store.openFile(ref, commit, path, options, signal)).stream();
        },
      });
    },
  });
}

/** What the headers say of a file. */
function describeFile(entry: FileEntry) {
  const name = textOfPath(entry.path.slice(entry.path.lastIndexOf("/") + 1));
  return {
    name,
    contentType: mime.getType(name) ?? "application/octet-stream",
    sizeBytes: entry.size,
    entityTag: entityTagOf(entry),
  };
}

function refuseFile(error: unknown): never {
  if (error instanceof PathNotFoundError)
    throw new ApiError(404, "FILE_NOT_FOUND", error.message, { cause: error });
  if (error instanceof UnsafePathError && error.reason === "not-a-file")
    throw new ApiError(409, "NOT_A_FILE", error.message, { cause: error });
  throw error;
}
