/** A variable that names a service or file of the benchmarks. @throws where it is not set */
export function required(
  name: "DOCKER_HOST" | "LONGSHORE_TEST_IMAGE" | "LONGSHORE_TEST_ROOTFS",
  benchmark: string,
): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this by \`npm run bench -- ${benchmark}\``);
  return value;
}
