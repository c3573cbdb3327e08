import { describe, expect, it } from "vitest";
import { identifierSchema, nameSchema } from "./names.ts";

describe("nameSchema", () => {
  it.each(["a", "7", "helper", "a.b_c-d", "x".repeat(64)])("takes %j", (name) => {
    expect(nameSchema.safeParse(name).success).toBe(true);
  });

  it.each(["", "A", ".a", "a.", "-a", "a/b", "a b", "a\n", "ä", "..", "x".repeat(65)])(
    "refuses %j",
    (name) => {
      expect(nameSchema.safeParse(name).success).toBe(false);
    },
  );
});

describe("identifierSchema", () => {
  it.each(["a", "Ünïcödé 🙂", " ", "a/b:c", "x".repeat(16)])("takes %j", (text) => {
    expect(identifierSchema(16).safeParse(text).success).toBe(true);
  });

  it.each(["", "a\nb", "\u0000", "\u007f", "\u001b[31m", "x".repeat(17)])("refuses %j", (text) => {
    expect(identifierSchema(16).safeParse(text).success).toBe(false);
  });
});
