import { identifierSchema } from "@longshore/shared";
import { z } from "zod";
import { checkOwned } from "../owned-session.ts";
import { problemSchema } from "../problem.ts";
import { type Api, type RouteParts, requestSignal, tenantOf } from "../route-parts.ts";
import { sessionParams } from "../session-params.ts";

/** The body is one short field, in bytes. */
const BODY_BYTES = 16 * 1024;

/** Ends a turn before its time. */
export function cancelRoutes(app: Api, { access, state, turnWakes, closing }: RouteParts): void {
  app.post(
    "/v1/sessions/:sessionId/cancel",
    {
      config: { scope: "operate", bodyBytes: BODY_BYTES },
      schema: {
        summary: "Cancel the turn that runs, or whose retry waits",
        description:
          "What the turn did so far stays and is committed; its messages end as `cancelled` by that commit, without a " +
          "reply. Names the turn it means by `turnId` (of the session's events); without it, whichever it is.",
        params: sessionParams,
        body: z.strictObject({ turnId: identifierSchema(64).optional() }).nullish(),
        response: {
          202: z.object({
            turnId: z.string(),
            /** Its messages; none where it had ended by an earlier request. */
            messageIds: z.array(z.string()),
          }),
          "4xx": problemSchema,
          "5xx": problemSchema,
        },
      },
    },
    async (request, reply) => {
      const { sessionId } = request.params;
      const tenant = tenantOf(request);
      await checkOwned(access, { tenant, sessionId }, requestSignal(reply, closing));
      const { turnId, messageIds, leased } = await state.cancelTurn(sessionId, request.body?.turnId);
      // Its retry waits, or its worker died: somebody has to end it.
      if (!leased && messageIds.length > 0) await turnWakes.hasten({ sessionId, tenant });
      return reply.code(202).send({ turnId, messageIds: [...messageIds] });
    },
  );
}
