import { readEnvironment } from "@longshore/shared";

/** Read by the AWS SDK, not by us. */
const READ_BY_LIBRARIES = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/**
 * The variables that no process reads: neither as an address or setting, nor by a library, nor by `${NAME}` in
 * the configuration. Throws where a value is not allowed.
 */
export function unreadVariables(
  variables: Readonly<Record<string, string>>,
  configuration: string,
): readonly string[] {
  const read = readEnvironment(variables);
  return Object.keys(variables).filter(
    (name) => !(name in read) && !READ_BY_LIBRARIES.includes(name) && !configuration.includes(`\${${name}}`),
  );
}
