export interface Download {
  readonly name: string;
  readonly contentType: string;
  readonly sizeBytes: number;
}

/** Types that a browser may show in place; everything else is saved. */
const SHOWN = /^(?:text\/plain|image\/(?:png|jpeg|gif|webp)|application\/pdf|audio\/.*|video\/.*)$/;

/**
 * Headers for content that an agent made. It comes from the API's own address, so a browser must neither run
 * it nor guess what it might be.
 */
export function downloadHeaders({ name, contentType, sizeBytes }: Download): Record<string, string> {
  const disposition = SHOWN.test(contentType) ? "inline" : "attachment";
  const encoded = encodeURIComponent(name.toWellFormed()).replace(
    /['()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return {
    "content-type":
      contentType.startsWith("text/") && !contentType.includes("charset")
        ? `${contentType}; charset=utf-8`
        : contentType,
    "content-length": String(sizeBytes),
    "content-disposition": `${disposition}; filename*=UTF-8''${encoded}`,
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
  };
}
