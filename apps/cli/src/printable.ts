/**
 * Text from agents, senders and file names as it may go to a terminal: without escape sequences and control
 * characters, by which it could recolour the screen, move the cursor over what stood there, or answer in the
 * user's name. Line breaks and tabs stay.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

/** The same for one line of a list. */
export function printableLine(text: string): string {
  return printable(text).replace(/[\n\t]/g, "\ufffd");
}
