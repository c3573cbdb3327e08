import { sessionPathOfApi } from "@longshore/shared";
import { z } from "zod";
import { ApiError } from "./api-error.ts";
import { sessionParams } from "./session-params.ts";

export const generationQuery = z.coerce.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional();

export const base64Url = z
  .string()
  .max(8_192)
  .regex(/^[\w-]*$/, { error: "base64url" });

export const pathEncodingQuery = z.enum(["text", "base64url"]).default("text");

/** A session and the path of a file in it. */
export const fileParams = sessionParams.extend({ "*": z.string().max(8_192) });

/** A path of an address: text, or its bytes. @throws ApiError `INVALID_REQUEST`; UnsafePathError */
export function readRequestPath(given: string, encoding: "text" | "base64url"): string | Buffer {
  if (encoding === "text") return sessionPathOfApi(given);
  if (!base64Url.safeParse(given).success)
    throw new ApiError(400, "INVALID_REQUEST", "The params are not valid", {
      problems: [{ where: "path", problem: "base64url" }],
    });
  return Buffer.from(given, "base64url");
}
