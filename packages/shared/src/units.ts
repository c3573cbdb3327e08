import { z } from "zod";

const DURATION_UNITS_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const SIZE_UNITS_BYTES = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;

function parseWithUnit(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/.exec(text);
  const factor = match && Object.hasOwn(units, match[2] as string) ? units[match[2] as string] : undefined;
  if (!match || factor === undefined) return undefined;
  const value = Number(match[1]) * factor;
  return Number.isSafeInteger(value) ? value : undefined;
}

interface Bounds {
  /** Smallest value allowed, in the written form (`1s`, `1MiB`). */
  readonly min: string;
  /** Largest value allowed, in the written form. */
  readonly max: string;
}

function quantity(what: string, units: Readonly<Record<string, number>>, example: string, bounds: Bounds) {
  const min = parseWithUnit(bounds.min, units) as number;
  const max = parseWithUnit(bounds.max, units) as number;
  const schema = z
    .string({ error: `a ${what} such as "${example}"` })
    .meta({ title: `${what} from ${bounds.min} to ${bounds.max}` });
  return schema.transform((text, context) => {
    const value = parseWithUnit(text, units);
    if (value === undefined || value < min || value > max) {
      context.addIssue({
        code: "custom",
        message: `a ${what} such as "${example}" from ${bounds.min} to ${bounds.max} (units: ${Object.keys(units).join(", ")})`,
      });
      return z.NEVER;
    }
    return value;
  });
}

/** A duration written as `500ms`, `30s`, `5m`, `24h` or `30d`; parsed to milliseconds. */
export function duration(bounds: Bounds) {
  return quantity("duration", DURATION_UNITS_MS, "30s", bounds);
}

/** A size written as `512MiB` (units B, KiB, MiB, GiB, TiB); parsed to bytes. */
export function size(bounds: Bounds) {
  return quantity("size", SIZE_UNITS_BYTES, "512MiB", bounds);
}
