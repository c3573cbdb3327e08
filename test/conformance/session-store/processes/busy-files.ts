/** Of each file in `atomic`: 32 bytes of SHA-256, then what it is the hash of. All of one size. */
export const ATOMIC_BYTES = 3000;

/** Of the file `large`, in bytes, which is rewritten in place. */
export const LARGE_BYTES = 3 * 1024 * 1024;
