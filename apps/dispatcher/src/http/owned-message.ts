import type { MessageView } from "../message-view.ts";
import { ApiError } from "./api-error.ts";
import type { RouteParts } from "./route-parts.ts";

/** A message of the tenant. Throws `ApiError` `MESSAGE_NOT_FOUND`, for another tenant's as for one that never was. */
export async function readOwnedMessage(
  { access, views }: Pick<RouteParts, "access" | "views">,
  tenant: string,
  messageId: string,
  signal: AbortSignal,
): Promise<MessageView> {
  const owned = await access.ownsMessage(tenant, messageId, signal);
  const view =
    (owned ? await views.read(tenant, messageId, signal) : undefined) ??
    (await views.readWaiting(tenant, messageId));
  if (view === undefined) throw new ApiError(404, "MESSAGE_NOT_FOUND", "There is no such message");
  return view;
}
