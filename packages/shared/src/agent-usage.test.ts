import { expect, it } from "vitest";
import { addUsage, sessionUsageSchema } from "./agent-usage.ts";

it("a sum stays one that can be read again, whatever agents say (I11)", () => {
  const most = { tokens: { input: Number.MAX_SAFE_INTEGER, output: 1 } };
  sessionUsageSchema.parse(most);
  const sum = addUsage(addUsage(undefined, most), most);
  expect(sessionUsageSchema.parse(sum)).toEqual({ tokens: { input: Number.MAX_SAFE_INTEGER, output: 2 } });
});
