/** Inside every sandbox: the helper, and the sockets by which it and the agent reach the worker; read-only. */
export const HELPER_PROGRAM = "/.longshore/init";
export const SOCKETS_DIRECTORY = "/.longshore/run";

/** What stands before the agent's own command. */
export const RUN_COMMAND: readonly string[] = [HELPER_PROGRAM, "run"];

/** Inside a sandbox of the contract `mailbox-db`: what runs the agent's program and serves its two databases. */
export const MAILBOX_PROGRAM = "/.longshore/mailbox";

/** Where the session directory is in such a sandbox, too: the contract's name for it. */
export const MAILBOX_DIRECTORY = "/workspace";

/** The command inside that carries its standard input and output to the worker's handler of tools. */
export const TOOLS_COMMAND: readonly string[] = [HELPER_PROGRAM, "mcp"];

/** Port of the loopback interface inside that leads to the worker's handler of egress. */
export const EGRESS_PORT = 3128;

/** Names of the sockets in the directory; the helper (`init/longshore-init.c`) has them too. */
export const LIFELINE_SOCKET = "lifeline";
export const EGRESS_SOCKET = "egress";
export const TOOLS_SOCKET = "tools";
