import { LongshoreError } from "@longshore/shared";

/** There is no such dead letter: it never was one of the tenant's, was dropped, or is settled for long. */
export class DeadLetterNotFoundError extends LongshoreError {
  constructor() {
    super("DEAD_LETTER_NOT_FOUND", "There is no such dead letter");
  }
}

/** What a dead letter said is beyond its retention: the generation that ended it, or an attachment. */
export class DeadLetterGoneError extends LongshoreError {
  constructor(what: string, cause?: unknown) {
    super("DEAD_LETTER_GONE", `It can't be tried again: ${what} is not kept any more`, { cause });
  }
}
