import { z } from "zod";

const tokens = z.int().nonnegative();

/** Kinds of tokens that agents report, as the Agent Client Protocol names them. */
export const tokenKinds = ["input", "output", "thought", "cachedRead", "cachedWrite"] as const;
export type TokenKind = (typeof tokenKinds)[number];

/** Tokens by kind; a kind that was not reported is left out. */
export const tokenCountsSchema = z.strictObject({
  input: tokens.optional(),
  output: tokens.optional(),
  thought: tokens.optional(),
  cachedRead: tokens.optional(),
  cachedWrite: tokens.optional(),
});
export type TokenCounts = z.output<typeof tokenCountsSchema>;

/** What an agent last said of its own session. */
export const agentContextSchema = z.strictObject({
  /** Tokens in its context, and how many fit into it. */
  usedTokens: tokens,
  sizeTokens: tokens,
  /** What the agent's session has cost so far, by the agent's word. */
  cost: z.strictObject({ amount: z.number().nonnegative(), currency: z.string().max(32) }).optional(),
});
export type AgentContext = z.output<typeof agentContextSchema>;

/** What a session used, as its agents reported it: all turns that were committed, and its agent's context after the last. */
export const sessionUsageSchema = z.strictObject({
  tokens: tokenCountsSchema,
  context: agentContextSchema.optional(),
});
export type SessionUsage = z.output<typeof sessionUsageSchema>;

/** A session's usage with that of one more turn. What an agent says counts as it stands, but for a sum that is no number any more. */
export function addUsage(before: SessionUsage | undefined, turn: SessionUsage): SessionUsage {
  const sum: Record<string, number> = { ...before?.tokens };
  for (const [kind, count] of Object.entries(turn.tokens))
    sum[kind] = Math.min((sum[kind] ?? 0) + count, Number.MAX_SAFE_INTEGER);
  const context = turn.context ?? before?.context;
  return { tokens: sum, ...(context === undefined ? {} : { context }) };
}
