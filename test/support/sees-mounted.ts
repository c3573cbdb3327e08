/**
 * Whether a process with such mounts is in a sandbox: by what is mounted from a path with `part` in it, elsewhere than
 * there. What the host has mounted there is seen by every process of the host, and by whatever container is just being set up.
 */
export function seesMounted(mountinfo: string, part: string): boolean {
  return mountinfo.split("\n").some((line) => {
    const [, , , root, mountPoint] = line.split(" ");
    return root?.includes(part) && !mountPoint?.includes(part);
  });
}
