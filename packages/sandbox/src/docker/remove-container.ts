import { setTimeout as delay } from "node:timers/promises";
import { EngineCallError, EngineTimeoutError, EngineUnreachableError, SandboxStuckError } from "../errors.ts";
import type { Engine } from "./engine.ts";

const ATTEMPTS = 3;
const REMOVE_TIMEOUT_MS = 15_000;
const PAUSE_BETWEEN_MS = 200;
const NOT_FOUND = 404;

/**
 * Removes a container by force and resolves when it is gone. A removal that fails is tried again after the
 * container was thawed and killed: no signal ends a frozen one.
 * @param isPaused thaw it first: Docker waits 10 s for a paused one of gVisor to take its signal
 * @throws EngineUnreachableError, and SandboxStuckError when it is still there after three attempts
 */
export async function removeContainer(engine: Engine, idOrName: string, isPaused: boolean): Promise<void> {
  if (isPaused) await attemptOnly(() => engine.unpause(idOrName));
  let lastError: unknown;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    try {
      await engine.remove(idOrName, REMOVE_TIMEOUT_MS);
      return;
    } catch (error) {
      if (error instanceof EngineUnreachableError) throw error;
      if (error instanceof EngineCallError && error.status === NOT_FOUND) return;
      lastError = error;
    }
    // "Removal is already in progress" comes here too: then the next attempt finds it gone.
    await delay(PAUSE_BETWEEN_MS);
    await attemptOnly(() => engine.unpause(idOrName));
    await attemptOnly(() => engine.kill(idOrName, "SIGKILL"));
  }
  const reason = lastError instanceof EngineTimeoutError ? "removing it hangs" : "removing it fails";
  throw new SandboxStuckError(idOrName, reason, lastError);
}

async function attemptOnly(call: () => Promise<void>): Promise<void> {
  try {
    await call();
  } catch (error) {
    if (error instanceof EngineUnreachableError) throw error;
  }
}
