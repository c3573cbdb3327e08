/** What goes wrong where nobody waits for it ends the benchmark: a figure would say nothing. */
export function failBench(error: unknown): void {
  throw error;
}
