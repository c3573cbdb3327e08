import { z } from "zod";

/** A session in an address. */
export const sessionParams = z.object({ sessionId: z.string().max(64) });
