/** A file up to this size is one chunk; a longer one is cut at multiples of it, in bytes. */
export const CHUNK_BYTES = 1024 * 1024;

/** Chunks of small files share a frame up to about this many plain bytes. */
export const FRAME_BYTES = 256 * 1024;

/** No frame unpacks to more than this, in bytes: what one chunk and a started frame can add up to. */
export const FRAME_BYTES_MAX = CHUNK_BYTES + FRAME_BYTES;

/** A pack is put once it holds this many bytes. */
export const PACK_BYTES = 8 * 1024 * 1024;

/** The random name of a pack. */
export const PACK_ID_BYTES = 32;

/** New content up to this many packed bytes is part of the commit record instead of a pack. */
export const INLINE_BYTES = 32 * 1024;

/** A change of the table up to this many packed bytes is part of the commit record. */
export const INLINE_DELTA_BYTES = 24 * 1024;

/** No table unpacks to more than this, in bytes: some ten million files. */
export const TABLE_BYTES_MAX = 1024 * 1024 * 1024;

/** No head of a commit record unpacks to more than this, in bytes. */
export const RECORD_BYTES_MAX = 64 * 1024 * 1024;

/** Deepest path, in parts. Each level costs a descriptor while a tree is walked. */
export const DEPTH_MAX = 512;

/** Longest path in bytes. */
export const PATH_BYTES_MAX = 4096;

/** Longest name in bytes. */
export const NAME_BYTES_MAX = 255;
