import { createHash, createHmac } from "node:crypto";

export interface SigningKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly region: string;
}

/**
 * Signs an S3 request anew (AWS Signature Version 4, in its headers), for a proxy that changed what was signed.
 *
 * @param target path and query as they are sent
 * @param headers in lower case, with `host` and `x-amz-content-sha256`; given the new date and authorization
 */
export function signRequest(
  key: SigningKey,
  method: string,
  target: string,
  headers: Record<string, string>,
): void {
  const date = new Date().toISOString().replace(/[:-]|\.\d{3}/g, "");
  headers["x-amz-date"] = date;
  delete headers.authorization;
  const signed = Object.keys(headers)
    .filter((name) => name === "host" || name.startsWith("x-amz-"))
    .sort();
  const { pathname, searchParams } = new URL(target, "http://proxy");
  const query = [...searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join("&");
  const canonical = [
    method,
    pathname,
    query,
    ...signed.map((name) => `${name}:${headers[name]}`),
    "",
    signed.join(";"),
    headers["x-amz-content-sha256"],
  ].join("\n");
  const scope = `${date.slice(0, 8)}/${key.region}/s3/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", date, scope, sha256(canonical)].join("\n");
  const secret = [date.slice(0, 8), key.region, "s3", "aws4_request"].reduce<Buffer | string>(
    (previous, part) => createHmac("sha256", previous).update(part).digest(),
    `AWS4${key.secretAccessKey}`,
  );
  const signature = createHmac("sha256", secret).update(text).digest("hex");
  headers.authorization =
    `AWS4-HMAC-SHA256 Credential=${key.accessKeyId}/${scope}, ` +
    `SignedHeaders=${signed.join(";")}, Signature=${signature}`;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
