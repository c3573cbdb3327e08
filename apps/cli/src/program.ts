import { randomUUID } from "node:crypto";
import { userInfo } from "node:os";
import { Command, InvalidArgumentError, Option } from "commander";
import { type AgentTemplate, agentTemplates, createAgent } from "./agent-scaffold.ts";
import { chat } from "./chat.ts";
import type { CommandContext, GlobalOptions } from "./command-context.ts";
import { dropDeadLetters, listDeadLetters, retryDeadLetters } from "./dead-letters.ts";
import { listQueues, listWorkers } from "./fleet.ts";
import { runApp, runDev, runTry } from "./run-process.ts";
import { addSchedule, listSchedules, removeSchedule } from "./schedules.ts";
import { send } from "./send.ts";
import { cancelTurn } from "./session-cancel.ts";
import { fork, putFile, rollBack, showDiff, showLog } from "./session-history.ts";
import { pullSession } from "./session-pull.ts";
import { listFiles, listSessions, showFile, showSession } from "./sessions.ts";
import { showTurnLogs } from "./turn-logs.ts";

/** So long is a message waited for, in seconds: a turn may take 30 minutes, and others may be before it. */
const WAIT_SECONDS = 3_600;

/** The command line. Each action gives the process' exit status, or nothing for 0. */
export function buildProgram(context: CommandContext, setStatus: (status: number) => void): Command {
  const program = new Command("longshore")
    .description("Chat agents on a fleet of Linux hosts")
    .option("--json", "results and errors as JSON")
    .option("--url <url>", "address of the dispatcher (LONGSHORE_URL; default http://127.0.0.1:8080)")
    .option("--key-file <file>", "file that holds the API key (LONGSHORE_KEY_FILE)")
    .option("--key <key>", "the API key; LONGSHORE_KEY or a file keep it out of the process list")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.output.write(text),
      writeErr: (text) => context.output.note(text),
    });
  program.hook("preAction", (_program, command) => {
    context.output.json = command.optsWithGlobals<GlobalOptions>().json === true;
  });

  program
    .command("dev")
    .description("run everything on this machine: Redis, a store, dispatcher, worker, the reference agent")
    .action(async () => setStatus(await runDev()));
  for (const name of ["dispatcher", "worker"] as const) {
    program
      .command(name)
      .description(`run a ${name}, as its environment and longshore.yaml say`)
      .action(async () => setStatus(await runApp(name)));
  }

  addressed(program.command("send").argument("<text>", "the message; - reads it from standard input"))
    .description("send a message and write the replies")
    .option("--conversation <id>", "conversation", "cli")
    .option("--id <id>", "id of the message, by which sending it again is harmless (default: a random one)")
    .option(
      "--attach <file|url>",
      "attach a file, or what the dispatcher gets from a URL (again for more)",
      collect,
      [] as string[],
    )
    .option(
      "--not-before <time>",
      "not before this time (ISO 8601, such as 2030-01-31T09:00Z); does not wait",
    )
    .option("--no-wait", "print the message's id once it is accepted, and leave")
    .option("--stream", "write text as it comes, also where no terminal watches")
    .action((text: string, _options, command: Command) => send(context, text, command.optsWithGlobals()));
  addressed(program.command("chat"))
    .description("talk: each line is a message")
    .option("--conversation <id>", "conversation", `cli-${randomUUID().slice(0, 8)}`)
    .action((_options, command: Command) => chat(context, command.optsWithGlobals()));

  const sessions = program.command("sessions").description("sessions and their files");
  sessions
    .command("ls")
    .description("list sessions, newest first")
    .option("--limit <number>", "at most so many", wholeNumber, 50)
    .action((_options, command: Command) => listSessions(context, command.optsWithGlobals()));
  sessions
    .command("show")
    .argument("<session>")
    .description("one session and its generations")
    .action((id: string, _options, command: Command) => showSession(context, id, command.optsWithGlobals()));
  ofGeneration(sessions.command("files"))
    .argument("<session>")
    .description("list the files of a session")
    .action((id: string, _options, command: Command) => listFiles(context, id, command.optsWithGlobals()));
  ofGeneration(sessions.command("cat"))
    .argument("<session>")
    .argument("<path>", "from the session directory: workspace/...")
    .description("write a file of a session to standard output, byte for byte")
    .action((id: string, path: string, _options, command: Command) =>
      showFile(context, id, path, command.optsWithGlobals()),
    );
  ofGeneration(sessions.command("pull"))
    .argument("<session>")
    .argument("<directory>", "a new or empty directory; any with --update")
    .description("download a session's directory")
    .option("--under <path>", "only this directory of the session")
    .option("--update", "into a directory that holds something: only what differs is downloaded")
    .option("--delete", "with --update: remove what the session does not have")
    .action((id: string, directory: string, _options, command: Command) =>
      pullSession(context, id, directory, command.optsWithGlobals()),
    );

  waiting(sessions.command("push"))
    .argument("<session>")
    .argument("<directory>")
    .description("upload what differs in a directory, as one commit")
    .option("--under <path>", "into this directory of the session")
    .option(
      "--exclude <pattern>",
      "leave paths out, such as '**/node_modules/**' (again for more)",
      collect,
      [],
    )
    .option("--delete", "remove from the session what the directory does not have")
    .option("--dry-run", "only say what would be done")
    .action(async (id: string, directory: string, _options, command: Command) => {
      const { pushSession } = await import("./session-push.ts");
      await pushSession(context, id, directory, command.optsWithGlobals());
    });
  waiting(sessions.command("put"))
    .argument("<session>")
    .argument("<file>", "of this machine")
    .argument("<path>", "from the session directory: workspace/...")
    .description("put one file into a session")
    .action((id: string, file: string, path: string, _options, command: Command) =>
      putFile(context, id, file, path, command.optsWithGlobals()),
    );
  sessions
    .command("log")
    .argument("<session>")
    .description("list the generations of a session, newest first")
    .option("--limit <number>", "at most so many", wholeNumber, 50)
    .action((id: string, _options, command: Command) => showLog(context, id, command.optsWithGlobals()));
  sessions
    .command("turn-logs")
    .argument("<session>")
    .argument("[log]", "the id of one: shows what is in it")
    .description("list the logs of a session's turns, newest first")
    .option("--limit <number>", "at most so many", wholeNumber, 50)
    .action((id: string, log: string | undefined, _options, command: Command) =>
      showTurnLogs(context, id, log, command.optsWithGlobals()),
    );
  sessions
    .command("diff")
    .argument("<session>")
    .description("what is different between two generations")
    .option("--from <number>", "default: the one before; 0: nothing", number)
    .option("--to <number>", "default: the newest", wholeNumber)
    .action((id: string, _options, command: Command) => showDiff(context, id, command.optsWithGlobals()));
  waiting(sessions.command("rollback"))
    .argument("<session>")
    .argument("<generation>", "whose files the session is to have again", wholeNumber)
    .description("give a session the files of an earlier generation, as a new one")
    .action((id: string, generation: number, _options, command: Command) =>
      rollBack(context, id, generation, command.optsWithGlobals()),
    );
  sessions
    .command("fork")
    .argument("<session>")
    .description("begin a session from a generation of another one")
    .option("--generation <number>", "default: the newest", wholeNumber)
    .option("--conversation <id>", "whose session it is to be (default: a new conversation)")
    .option("--thread <id>", "thread of the conversation")
    .action((id: string, _options, command: Command) => fork(context, id, command.optsWithGlobals()));

  waiting(sessions.command("cancel"))
    .argument("<session>")
    .description("cancel the turn that runs, or whose retry waits; what it did stays")
    .option("--turn <id>", "only this turn (default: whichever it is)")
    .action((id: string, _options, command: Command) => cancelTurn(context, id, command.optsWithGlobals()));

  const agents = program.command("agents").description("agents of one's own");
  agents
    .command("new")
    .argument("<directory>", "a new one; its name is the agent's")
    .description("begin an agent: a program that answers, its image and its definition")
    .addOption(
      new Option("--template <name>", "acp: TypeScript and the Agent Client Protocol; exec: a shell script")
        .choices(agentTemplates)
        .default("acp"),
    )
    .action((directory: string, options: { template: AgentTemplate }) =>
      createAgent(context, directory, options),
    );
  agents
    .command("try")
    .argument("<directory>", "with the agent's Dockerfile and agent.yaml")
    .argument("[text]", "send this and leave with the answer (default: talk, a line a message)")
    .description("build an agent's image and talk to it, in a fleet on this machine that ends with the talk")
    .action(async (directory: string, text: string | undefined) => setStatus(await runTry(directory, text)));

  program
    .command("workers")
    .description("list workers, with their places and activations")
    .action((_options, command: Command) => listWorkers(context, command.optsWithGlobals()));
  program
    .command("queues")
    .description("count jobs by queue and state")
    .action((_options, command: Command) => listQueues(context, command.optsWithGlobals()));

  const schedules = program.command("schedules").description("messages that are sent at set times");
  schedules
    .command("ls")
    .description("list schedules, and when each is due next")
    .action((_options, command: Command) => listSchedules(context, command.optsWithGlobals()));
  between(schedules.command("add").argument("<id>").argument("<text>"))
    .description("send a message at set times; one of the same id is replaced")
    .option("--cron <fields>", "five fields, such as '0 9 * * 1-5'")
    .option("--time-zone <name>", "of the cron, such as Europe/Berlin (default: the agent's)")
    .option("--every <duration>", "instead of --cron: how often, such as 15m")
    .option("--at <time>", "instead of --cron: once, such as 2026-01-31T09:00:00+01:00")
    .option("--conversation <id>", "conversation", "cli")
    .action((id: string, text: string, _options, command: Command) =>
      addSchedule(context, id, text, command.optsWithGlobals()),
    );
  schedules
    .command("rm")
    .argument("<id>")
    .description("remove a schedule")
    .action((id: string, _options, command: Command) =>
      removeSchedule(context, id, command.optsWithGlobals()),
    );

  const volumes = program
    .command("volumes")
    .description("volumes of agents and users, directly in the object store");
  volumes
    .command("ls")
    .description("list volumes, and what was committed of each last")
    .option("--tenant <name>", "only this one's")
    .action(async (_options, command: Command) => {
      const { listVolumes } = await import("./volumes.ts");
      await listVolumes(context, command.optsWithGlobals());
    });
  volumes
    .command("pull")
    .argument("<volume>")
    .argument("<directory>")
    .description("copy a volume, as it was committed last, into a new or empty directory")
    .option("--tenant <name>", "whose it is, where there are several")
    .action(async (volume: string, directory: string, _options, command: Command) => {
      const { pullVolume } = await import("./volumes.ts");
      await pullVolume(context, volume, directory, command.optsWithGlobals());
    });

  const dead = program.command("dead").description("messages that were given up on, undeliverable replies");
  dead
    .command("ls")
    .description("list dead letters, latest first")
    .option("--limit <number>", "at most so many", wholeNumber, 50)
    .action((_options, command: Command) => listDeadLetters(context, command.optsWithGlobals()));
  dead
    .command("retry")
    .argument("<id...>")
    .description("try dead letters again")
    .action((ids: string[], _options, command: Command) =>
      retryDeadLetters(context, ids, command.optsWithGlobals()),
    );
  dead
    .command("drop")
    .argument("<id...>")
    .description("drop dead letters for good")
    .action((ids: string[], _options, command: Command) =>
      dropDeadLetters(context, ids, command.optsWithGlobals()),
    );

  program
    .command("gc")
    .description("remove generations beyond their retention, and what nothing needs, from the object store")
    .option("--dry-run", "only say what would be done")
    .option("--tenant <name>", "only this one's sessions")
    .action(async (_options, command: Command) => {
      const { collectGarbage } = await import("./collect.ts");
      await collectGarbage(context, command.optsWithGlobals());
    });
  program
    .command("doctor")
    .description(
      "check environment, configuration, Redis, object store and sandboxes, and say how to mend them",
    )
    .option("--repair", "also rebuild the lists of sessions and dead letters from the object store")
    .action(async (_options, command: Command) => {
      // Loaded only here: the clients of stores and engines take longer to load than other commands to run.
      const { doctor } = await import("./doctor/doctor.ts");
      await doctor(context, command.optsWithGlobals());
    });
  return program;
}

/** Options of who talks to whom, and of waiting for the answer. */
function addressed(command: Command): Command {
  return between(command).option(
    "--timeout <seconds>",
    "the longest wait for an answer",
    wholeNumber,
    WAIT_SECONDS,
  );
}

/** Options of who talks to whom. */
function between(command: Command): Command {
  return command
    .option("--agent <name>", "agent", "helper")
    .option("--channel <name>", "channel", "http")
    .option("--thread <id>", "thread of the conversation")
    .option("--sender <id>", "who sends", userName());
}

function ofGeneration(command: Command): Command {
  return command.option("--generation <number>", "as of this generation (default: the newest)", wholeNumber);
}

/** Options of what waits until the session has come to it. */
function waiting(command: Command): Command {
  return command.option("--timeout <seconds>", "the longest wait", wholeNumber, WAIT_SECONDS);
}

function collect(value: string, previous: readonly string[]): string[] {
  return [...previous, value];
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError("a whole number from 1");
  }
  return value;
}

function number(text: string): number {
  return text === "0" ? 0 : wholeNumber(text);
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A user id without a name, as containers have.
    return "cli";
  }
}
