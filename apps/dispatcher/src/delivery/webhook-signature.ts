import { createHmac } from "node:crypto";

const BASE64_SECRET = "whsec_";

export interface SignedHeaders {
  readonly "webhook-id": string;
  readonly "webhook-timestamp": string;
  readonly "webhook-signature": string;
}

/**
 * The headers of the Standard Webhooks specification: HMAC SHA-256 over the id, the time stamp (seconds
 * since the epoch) and the body, so that neither can be replaced or replayed later. A secret that begins
 * with `whsec_` holds its bytes in base64, as the specification says; any other is taken as it is.
 */
export function signWebhook(
  secret: string,
  { id, timestamp, body }: { readonly id: string; readonly timestamp: number; readonly body: string },
): SignedHeaders {
  const key = secret.startsWith(BASE64_SECRET)
    ? Buffer.from(secret.slice(BASE64_SECRET.length), "base64")
    : Buffer.from(secret, "utf8");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return {
    "webhook-id": id,
    "webhook-timestamp": String(timestamp),
    "webhook-signature": `v1,${signature}`,
  };
}
