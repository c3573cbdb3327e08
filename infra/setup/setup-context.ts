/** What every step of a set-up is given. */
export interface SetupContext {
  /** Tells the person at the terminal what takes time; a line without its end. */
  readonly report: (line: string) => void;
  /** Ends the set-up early. */
  readonly signal?: AbortSignal | undefined;
}
