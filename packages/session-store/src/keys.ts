import { BadStoreNameError, CorruptObjectError } from "./errors.ts";
import { isStoreName } from "./format/store-name.ts";
import type { FrameSource } from "./format/table-entry.ts";

/** A session of a tenant. */
export interface SessionRef {
  readonly tenant: string;
  readonly sessionId: string;
}

/** A volume of a tenant: a directory that is stored like a session and outlives them. */
export interface VolumeRef {
  readonly tenant: string;
  /** Any name of up to 255 characters, such as `persistent/ada`; the slash is part of the name. */
  readonly volume: string;
}

/** A versioned directory. */
export type DirectoryRef = SessionRef | VolumeRef;

/** Where skills are; no tenant has this name. */
const SKILLS = "skills";

/** Generations count up to this; keys count down from it, so that one LIST finds the newest. */
const GENERATION_MAX = 999_999_999_999_999;
const GENERATION_DIGITS = 15;

/** The prefix of all objects of a directory, with a slash at its end. @throws BadStoreNameError */
export function directoryPrefix(ref: DirectoryRef): string {
  const tenant = checkedName("tenant", ref.tenant);
  if ("sessionId" in ref) return `${tenant}/sessions/${checkedName("session id", ref.sessionId)}/`;
  return `${tenant}/volumes/${volumePart(ref.volume)}/`;
}

export function sessionsPrefix(tenant: string): string {
  return `${checkedName("tenant", tenant)}/sessions/`;
}

export function volumesPrefix(tenant: string): string {
  return `${checkedName("tenant", tenant)}/volumes/`;
}

/** The name of a volume as one part of a key. @throws BadStoreNameError */
export function volumePart(volume: string): string {
  return encodedName("volume", volume);
}

/** @throws CorruptObjectError for what no volume is named */
export function volumeOfPart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new CorruptObjectError(part, "not the name of a volume");
  }
}

/** The prefix of the files of a skill: plain objects of no tenant, which the operator puts there. @throws BadStoreNameError */
export function skillPrefix(id: string, version: string): string {
  return `${SKILLS}/${checkedName("skill", id)}/${checkedName("version", version)}/`;
}

export function logPrefix(ref: DirectoryRef): string {
  return `${directoryPrefix(ref)}log/`;
}

/** The key of a commit record. */
export function logKey(ref: DirectoryRef, generation: number): string {
  return `${logPrefix(ref)}${String(GENERATION_MAX - generation).padStart(GENERATION_DIGITS, "0")}`;
}

/** The generation whose record a key names. @throws CorruptObjectError when it is no such key */
export function generationOfLogKey(key: string): number {
  const digits = key.slice(key.lastIndexOf("/") + 1);
  if (!/^\d{15}$/.test(digits)) throw new CorruptObjectError(key, "not the key of a commit record");
  return GENERATION_MAX - Number(digits);
}

/** The key of a full table or a rollup, by the name that commit records have for it: `<generation>-<hash>`. */
export function tableKey(ref: DirectoryRef, name: string): string {
  return `${directoryPrefix(ref)}table/${name}`;
}

/** The hash of a table object, which its name ends in. @throws CorruptObjectError */
export function hashOfTableName(key: string, name: string): string {
  const match = /^\d+-([0-9a-f]{64})$/.exec(name);
  if (match?.[1] === undefined) throw new CorruptObjectError(key, "not the name of a table");
  return match[1];
}

export function packKey(ref: DirectoryRef, id: string): string {
  return `${directoryPrefix(ref)}pack/${id}`;
}

/** The key of an object that holds frames of a directory's files. In a fork it may be another session's. */
export function sourceKey(ref: DirectoryRef, source: FrameSource): string {
  const owner = ownerOfSource(ref, source);
  return source.kind === "pack" ? packKey(owner, source.id) : logKey(owner, source.generation);
}

/** The directory whose object a source is. */
export function ownerOfSource(ref: DirectoryRef, source: FrameSource): DirectoryRef {
  return source.session === undefined ? ref : { tenant: ref.tenant, sessionId: source.session };
}

/** The prefix of what collectors note of a directory. */
export function marksPrefix(ref: DirectoryRef): string {
  return `${directoryPrefix(ref)}gc/`;
}

/** The key of a new mark object. @param storeTimeMs when its writer began, for whoever looks at a store by hand */
export function markKey(ref: DirectoryRef, storeTimeMs: number, name: string): string {
  return `${marksPrefix(ref)}${String(storeTimeMs).padStart(GENERATION_DIGITS, "0")}-${name}`;
}

/** The key of a new pin, which keeps objects of a session for a fork of it. */
export function pinKey(ref: SessionRef, forkSessionId: string, name: string): string {
  return `${directoryPrefix(ref)}pins/${checkedName("session id", forkSessionId)}/${name}`;
}

/** The fork that a pin belongs to. @throws CorruptObjectError when it is no such key */
export function sessionOfPinKey(key: string): string {
  const match = /\/pins\/([^/]+)\/[^/]+$/.exec(key);
  if (match?.[1] === undefined || !isStoreName(match[1]))
    throw new CorruptObjectError(key, "not the key of a pin");
  return match[1];
}

/** What the keys of all copies of an accepted attachment begin with, by the SHA-256 of its content in hexadecimal. */
export function inboundPrefix(ref: SessionRef, sha256: string): string {
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new BadStoreNameError("hash", sha256);
  return `${directoryPrefix(ref)}inbound/${sha256}`;
}

/** The key of a copy. Those of the first format have no name of their own and end in the hash. */
export function inboundKey(ref: SessionRef, sha256: string, name: string): string {
  return `${inboundPrefix(ref, sha256)}-${name}`;
}

/** The prefix of the logs of a session's turns. */
export function turnLogsPrefix(ref: SessionRef): string {
  return `${directoryPrefix(ref)}turns/`;
}

/** The key of the log of a turn. @param id as `putTurnLog` gives it */
export function turnLogKey(ref: SessionRef, id: string): string {
  return `${turnLogsPrefix(ref)}${checkedName("turn log", id)}`;
}

/** The key of an artifact: a file of a reply or a link. */
export function artifactKey(ref: SessionRef, id: string, name: string): string {
  const tenant = checkedName("tenant", ref.tenant);
  const session = checkedName("session id", ref.sessionId);
  return `${tenant}/artifacts/${session}/${checkedName("artifact id", id)}/${encodedName("artifact name", name)}`;
}

function checkedName(what: string, name: string): string {
  if (!isStoreName(name)) throw new BadStoreNameError(what, name);
  return name;
}

/** Any name as one part of a key: letters, digits and a few signs stay, all else is percent-encoded, a leading dot too. */
function encodedName(what: string, name: string): string {
  if (name === "" || name.length > 255 || !name.isWellFormed()) throw new BadStoreNameError(what, name);
  return encodeURIComponent(name).replace(/^\./, "%2E");
}
