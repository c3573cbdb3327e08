import { pathOf } from "@longshore/session-store";
import { sessionPathOfApi } from "@longshore/shared";
import { z } from "zod";
import { externalFiles, externalFilesSchema } from "../../external-files.ts";
import { fileViewSchema, listFiles } from "../../file-view.ts";
import { base64Url, generationQuery } from "../file-path.ts";
import { checkOwned, readGeneration } from "../owned-session.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";
import { sessionParams } from "../session-params.ts";

/** Files of sessions: lists. */
export function fileRoutes(app: Api, { configuration, store, access, closing }: RouteParts): void {
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
            /** What is seen among them and is no part of the session; on the first page. */
            external: z.array(externalFilesSchema).optional(),
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
      const external = cursor === undefined ? externalFiles(configuration(), commit, directory) : [];
      return {
        generation: commit.generation,
        files: [...page.files],
        ...(external.length === 0 ? {} : { external }),
        ...(page.cursor === undefined ? {} : { cursor: page.cursor }),
      };
    },
  );
}
