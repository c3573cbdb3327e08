import { Readable } from "node:stream";
import { pathOf, textOfPath } from "@longshore/session-store";
import { PathNotFoundError, sessionPathOfApi, UnsafePathError } from "@longshore/shared";
import mime from "mime";
import { z } from "zod";
import { fileViewSchema, listFiles } from "../../file-view.ts";
import { ApiError } from "../api-error.ts";
import { downloadHeaders } from "../download.ts";
import { checkOwned, readGeneration } from "../owned-session.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, sendRaw, tenantOf } from "../route-parts.ts";
import { sessionParams } from "./sessions.ts";

const generationQuery = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional();
const base64Url = z
  .string()
  .max(8_192)
  .regex(/^[\w-]*$/, { error: "base64url" });

export function fileRoutes(app: Api, { store, access, closing }: RouteParts): void {
  app.get(
    "/v1/sessions/:sessionId/files",
    {
      config: { scope: "read" },
      schema: {
        summary: "The files of a generation, the newest by default",
        params: sessionParams,
        querystring: z.strictObject({
          generation: generationQuery,
          /** A directory, from the session directory. */
          under: z.string().max(4_096).optional(),
          limit: z.coerce.number().int().min(1).max(10_000).default(1_000),
          cursor: base64Url.optional(),
        }),
        response: {
          200: z.object({
            /** 0 where nothing was committed yet. */
            generation: z.int(),
            files: z.array(fileViewSchema),
            cursor: z.string().optional(),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const { generation, under, limit, cursor } = request.query;
      const directory = under === undefined ? "" : pathOf(sessionPathOfApi(under));
      const signal = requestSignal(reply, closing);
      await checkOwned(access, ref, signal);
      const commit = await readGeneration(store, ref, generation, signal);
      if (commit === undefined) return { generation: 0, files: [] };
      const table = await store.readTable(ref, commit, signal);
      const after = cursor === undefined ? "" : pathOf(Buffer.from(cursor, "base64url"));
      const page = listFiles(table, { under: directory, after, limit });
      return {
        generation: commit.generation,
        files: [...page.files],
        ...(page.cursor === undefined ? {} : { cursor: page.cursor }),
      };
    },
  );

  app.get(
    "/v1/sessions/:sessionId/files/*",
    {
      config: { scope: "read" },
      schema: {
        summary: "The content of a file",
        description:
          "The path may be relative, with a leading slash, or absolute below `/session/`. With " +
          "`encoding=base64url` it is the path's bytes, for names that are not UTF-8.",
        params: sessionParams.extend({ "*": z.string().max(8_192) }),
        querystring: z.strictObject({
          generation: generationQuery,
          encoding: z.enum(["text", "base64url"]).default("text"),
        }),
        response: { "4xx": problemSchema, "5xx": problemSchema },
      },
    },
    async (request, reply) => {
      const ref = { tenant: tenantOf(request), sessionId: request.params.sessionId };
      const { generation, encoding } = request.query;
      const given = request.params["*"];
      const path =
        encoding === "text" ? sessionPathOfApi(given) : Buffer.from(base64Url.parse(given), "base64url");
      const signal = requestSignal(reply, closing);
      await checkOwned(access, ref, signal);
      const commit = await readGeneration(store, ref, generation, signal);
      if (commit === undefined) throw new ApiError(404, "FILE_NOT_FOUND", "Nothing was committed yet");
      const { entry, stream } = await store.openFile(ref, commit, path, {}, signal).catch(refuseFile);
      const name = textOfPath(entry.path.slice(entry.path.lastIndexOf("/") + 1));
      const contentType = mime.getType(name) ?? "application/octet-stream";
      const headers = {
        ...downloadHeaders({ name, contentType, sizeBytes: entry.size }),
        "longshore-generation": String(commit.generation),
      };
      return sendRaw(reply.headers(headers), Readable.from(stream()));
    },
  );
}

function refuseFile(error: unknown): never {
  if (error instanceof PathNotFoundError)
    throw new ApiError(404, "FILE_NOT_FOUND", error.message, { cause: error });
  if (error instanceof UnsafePathError && error.reason === "not-a-file")
    throw new ApiError(409, "NOT_A_FILE", error.message, { cause: error });
  throw error;
}
