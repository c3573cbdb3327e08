/** Something that an agent asks the conversation in a turn. */
export interface Question {
  readonly text: string;
  /** Answers to choose from; where there are none, any is one. */
  readonly options: readonly string[];
  /** How long the turn waits for the answer, in ms. */
  readonly waitMs: number;
}

export interface Answer {
  readonly text: string;
  /** Which of the options it chose, if any, by its place. */
  readonly option: number | undefined;
}

/** The longest question and option, in characters, and how many options it may have. */
export const QUESTION_MAX = 8_000;
export const OPTION_MAX = 200;
export const OPTIONS_MAX = 20;

/** How long a question waits for its answer where nobody says how long, in ms. */
export const QUESTION_WAIT_MS = 5 * 60_000;

/** A question as a message, its options numbered. */
export function questionText({ text, options }: Pick<Question, "text" | "options">): string {
  return [text, ...options.map((option, at) => `${at + 1}. ${option}`)].join("\n");
}

/** The option that an answer means: by its own words, or by its number. */
export function chosenOption(text: string, options: readonly string[]): number | undefined {
  const plain = (word: string) => word.trim().toLowerCase();
  const byWords = options.findIndex((option) => plain(option) === plain(text));
  if (byWords >= 0) return byWords;
  const number = /^\s*(\d{1,3})[.)]?\s*$/.exec(text)?.[1];
  const byNumber = number === undefined ? -1 : Number(number) - 1;
  return byNumber >= 0 && byNumber < options.length ? byNumber : undefined;
}
