import { EngineUnreachableError, ImageMissingError } from "@longshore/sandbox";
import {
  GenerationNotFoundError,
  QuotaExceededError,
  StaleMirrorError,
  StoreAccessDeniedError,
  StoreUnavailableError,
} from "@longshore/session-store";
import { UnsafePathError } from "@longshore/shared";
import { describe, expect, it } from "vitest";
import { AgentExitedError, AgentGoneError, HandedBackError, TurnTimeoutError } from "./errors.ts";
import { classifyFailure, classifyOperationFailure, retryDelayMs } from "./failure.ts";

describe("classifyFailure", () => {
  it.each([
    ["counted", new AgentExitedError(1, null, "")],
    ["counted", new TurnTimeoutError("idle", 1_000, "")],
    ["counted", new TypeError("a bug of ours: must not loop for ever")],
    ["hopeless", new ImageMissingError("nope")],
    ["hopeless", new AgentGoneError("gone")],
    ["hopeless", new QuotaExceededError("bytes", 10, 11)],
    ["innocent", new StaleMirrorError()],
    ["innocent", new HandedBackError()],
    ["innocent", new StoreAccessDeniedError("put", "key", new Error("403"))],
    ["innocent", new Error("Command timed out")],
    ["innocent", new Error("READONLY You can't write against a read only replica.")],
    ["innocent", Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC", syscall: "mkdir" })],
    ["innocent", new EngineUnreachableError("unix:///nowhere", new Error("ENOENT"))],
  ])("is %s: %s", (kind, error) => {
    expect(classifyFailure(error).kind).toBe(kind);
  });

  it("records no more of a text than a bound", () => {
    expect(classifyFailure(new Error("x".repeat(1_000_000))).error.message.length).toBeLessThan(5_000);
  });

  it("carries the agent's last words", () => {
    expect(classifyFailure(new AgentExitedError(2, null, "boom\n")).error).toEqual({
      code: "AGENT_EXITED",
      message: "The agent exited with 2 before it answered. Its last output on stderr:\nboom",
    });
  });
});

describe("classifyOperationFailure", () => {
  it.each([
    ["hopeless", new UnsafePathError("a/b", "link", "a link")],
    ["hopeless", new GenerationNotFoundError(7)],
    ["hopeless", new QuotaExceededError("files", 10, 11)],
    ["innocent", new StaleMirrorError()],
    ["innocent", new StoreUnavailableError("put", "key", new Error("503"))],
    ["innocent", new HandedBackError()],
    ["counted", new TypeError("a bug of ours: must not loop for ever")],
  ])("is %s: %s", (kind, error) => {
    expect(classifyOperationFailure(error).kind).toBe(kind);
  });
});

describe("retryDelayMs", () => {
  const backoff = { backoff: 100, longest: 1_000 };

  it("doubles with each failure, up to the longest", () => {
    expect([0, 1, 2, 3, 4, 60].map((failures) => retryDelayMs(failures, backoff, () => 1))).toEqual([
      100, 200, 400, 800, 1_000, 1_000,
    ]);
  });

  it("is never less than half of that", () => {
    expect(retryDelayMs(2, backoff, () => 0)).toBe(200);
  });
});
