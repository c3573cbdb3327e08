import type { InputProblem } from "@longshore/shared";
import mime from "mime";

/** Room for a suffix that makes a name unique below the file systems' 255 bytes. */
const NAME_MAX_BYTES = 240;

interface Named {
  readonly name?: string | undefined;
  readonly contentType?: string | undefined;
  readonly kind?: string | undefined;
  readonly url?: string | undefined;
}

export interface FileName {
  readonly name: string;
  readonly contentType: string;
}

/**
 * A safe file name of its own for each attachment of a message: its name, else the last part of its URL that can be one,
 * else one from its content type, else one from its kind. A name that could mean a place outside `inbox/<messageId>/` is a problem, not
 * something to guess a better one for.
 */
export function nameAttachments(attachments: readonly Named[]): {
  readonly names: readonly FileName[];
  readonly problems: readonly InputProblem[];
} {
  const problems: InputProblem[] = [];
  const taken = new Set<string>();
  const names = attachments.map((attachment, index) => {
    const problem = attachment.name === undefined ? undefined : problemOfName(attachment.name);
    if (problem !== undefined) problems.push({ where: `attachments.${index}.name`, problem });
    const given = attachment.name ?? nameOfUrl(attachment.url);
    const wanted = given === undefined ? inventName(attachment, index + 1) : shorten(given.normalize("NFC"));
    const name = makeUnique(wanted, taken);
    taken.add(name.toLowerCase());
    return { name, contentType: attachment.contentType ?? mime.getType(name) ?? "application/octet-stream" };
  });
  return { names, problems };
}

function nameOfUrl(url: string | undefined): string | undefined {
  const last = url === undefined ? undefined : URL.parse(url)?.pathname.split("/").at(-1);
  if (last === undefined) return undefined;
  try {
    const name = decodeURIComponent(last);
    return problemOfName(name) === undefined ? name : undefined;
  } catch {
    return undefined;
  }
}

function problemOfName(name: string): string | undefined {
  if (!name.isWellFormed()) return "not well-formed text";
  if (/[/\\]/.test(name)) return "a file name, without a directory";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f]/.test(name)) return "no control characters";
  if (name.trim() === "" || name === "." || name === "..") return "a file name";
  return undefined;
}

function inventName({ contentType, kind }: Named, number: number): string {
  const extension = contentType === undefined ? null : mime.getExtension(contentType);
  return `${kind ?? "attachment"}-${number}${extension === null ? "" : `.${extension}`}`;
}

/** The stem and the extension of a name; the dot belongs to the extension. */
function split(name: string): [string, string] {
  const dot = name.lastIndexOf(".");
  return dot > 0 && name.length - dot <= 16 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
}

function shorten(name: string): string {
  if (Buffer.byteLength(name) <= NAME_MAX_BYTES) return name;
  const [stem, extension] = split(name);
  const room = NAME_MAX_BYTES - Buffer.byteLength(extension);
  // Cut between characters, never inside one.
  let short = "";
  let bytes = 0;
  for (const character of stem) {
    bytes += Buffer.byteLength(character);
    if (bytes > room) break;
    short += character;
  }
  return `${short}${extension}`;
}

function makeUnique(wanted: string, taken: ReadonlySet<string>): string {
  const [stem, extension] = split(wanted);
  let name = wanted;
  for (let count = 2; taken.has(name.toLowerCase()); count++) name = `${stem}-${count}${extension}`;
  return name;
}
