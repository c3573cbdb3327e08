import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CommandContext } from "./command.ts";
import { installPrograms, requireProgram } from "./debian-packages.ts";
import { cacheDirectory, repositoryRoot } from "./paths.ts";
import { run, runOnTerminal } from "./run-command.ts";

/** What libFuzzer is told where nobody tells it otherwise: how long, and for how long one input may take. */
const DEFAULTS = ["-max_total_time=60", "-timeout=10", "-max_len=4096"];

/**
 * `npm run fuzz [-- LIBFUZZER-OPTION...]`: fuzzes how `longshore-init` carries bytes (`test/fuzz/carry.c`), guided by coverage. The
 * inputs that it finds worth keeping are in `.cache/fuzz-carry`, and one that breaks something in the working directory.
 */
export async function fuzz(context: CommandContext): Promise<number> {
  await installPrograms(["clang"], context);
  const corpus = join(cacheDirectory, "fuzz-carry");
  await mkdir(corpus, { recursive: true });
  const directory = await mkdtemp(join(tmpdir(), "longshore-fuzz-"));
  try {
    const program = join(directory, "carry");
    const sanitizers = ["-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"];
    const source = join(repositoryRoot, "test/fuzz/carry.c");
    await run([requireProgram("clang"), "-std=gnu11", ...sanitizers, source, "-o", program], {
      signal: context.signal,
    });
    return await runOnTerminal([program, ...DEFAULTS, ...context.args, corpus], {
      cwd: repositoryRoot,
      signal: context.signal,
    });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
