/** One line of `/proc/<pid>/mountinfo`. */
export interface Mount {
  readonly mountPoint: string;
  readonly type: string;
  /** `shared:<group>`, `master:<group>`; none for a private one. */
  readonly propagation: readonly string[];
  readonly superOptions: readonly string[];
}

/** Parses a mount table; lines that are none are passed over. */
export function parseMountInfo(text: string): Mount[] {
  return text.split("\n").flatMap((line) => {
    const [left, right] = line.split(" - ", 2);
    const [, , , , mountPoint, , ...propagation] = left?.split(" ") ?? [];
    const [type, , superOptions] = right?.split(" ") ?? [];
    if (mountPoint === undefined || type === undefined) return [];
    const options = superOptions?.split(",") ?? [];
    return [{ mountPoint: decodeOctal(mountPoint), type, propagation, superOptions: options }];
  });
}

/** Blank, tab, newline and backslash are written as three octal digits. */
function decodeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
