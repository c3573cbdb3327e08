import { z } from "zod";

/** The name of a time zone that this machine knows, such as `Europe/Berlin`. */
export const timeZoneSchema = z
  .string()
  .max(64)
  .refine(isTimeZone, { error: 'the name of a time zone such as "Europe/Berlin" or "UTC"' });

function isTimeZone(name: string): boolean {
  // An offset is no zone: it knows no summer time, and not everybody who reads it takes it.
  if (!/^[A-Za-z]/.test(name)) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
