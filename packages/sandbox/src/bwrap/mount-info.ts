/** One line of `/proc/<pid>/mountinfo`. */
export interface Mount {
  /** Major and minor number of the file system. */
  readonly device: string;
  /** The directory of the file system that is shown. */
  readonly root: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly superOptions: readonly string[];
}

/** Parses a mount table; lines that are none are passed over. */
export function parseMountInfo(text: string): Mount[] {
  return text.split("\n").flatMap((line) => {
    const [left, right] = line.split(" - ", 2);
    const [, , device, root, mountPoint] = left?.split(" ") ?? [];
    const [type, , superOptions] = right?.split(" ") ?? [];
    if (device === undefined || root === undefined || mountPoint === undefined || type === undefined)
      return [];
    return [
      {
        device,
        root: decodeOctal(root),
        mountPoint: decodeOctal(mountPoint),
        type,
        superOptions: superOptions?.split(",") ?? [],
      },
    ];
  });
}

/** Where a path is in its file system, as mount tables of other processes show it. */
export function locate(mounts: readonly Mount[], path: string): { device: string; path: string } | undefined {
  let best: Mount | undefined;
  for (const mount of mounts) {
    const isAbove = mount.mountPoint === "/" || `${path}/`.startsWith(`${mount.mountPoint}/`);
    // Of mounts on one point, the last one is seen.
    if (isAbove && mount.mountPoint.length >= (best?.mountPoint.length ?? 0)) best = mount;
  }
  if (best === undefined) return undefined;
  const rest = best.mountPoint === "/" ? path : path.slice(best.mountPoint.length);
  return { device: best.device, path: best.root === "/" ? rest : `${best.root}${rest}` };
}

/** Blank, tab, newline and backslash are written as three octal digits. */
function decodeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
