import { z } from "zod";

/** What the fleet writes into the commits of a volume beside the change of files. */
export const volumeNoteSchema = z.strictObject({
  /** Whose turn it is of, under which epoch of its lease. */
  sessionId: z.string(),
  epoch: z.int().positive(),
  agent: z.string(),
  /** The newest generation before it that stood; 0: the empty directory. */
  wholeGeneration: z.int().nonnegative(),
});
export type VolumeNote = z.output<typeof volumeNoteSchema>;
