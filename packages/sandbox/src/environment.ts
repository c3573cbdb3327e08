/**
 * The environment of a sandbox: what the specification says over three defaults. HOME is in the session
 * directory, so that what an agent remembers travels with the session.
 */
export function sandboxEnvironment(env: Readonly<Record<string, string>>): Record<string, string> {
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/session/home",
    TMPDIR: "/tmp",
    ...env,
  };
}
