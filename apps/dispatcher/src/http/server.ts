import type { IncomingMessage } from "node:http";
import swagger from "@fastify/swagger";
import type { Logger } from "@longshore/shared";
import Fastify, { type FastifyReply, type FastifyRequest, LogController } from "fastify";
import {
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from "fastify-type-provider-zod";
import type { QueueBoard } from "../queue-board.ts";
import { ApiError } from "./api-error.ts";
import { Authorization, BOARD_PATH, isBoard } from "./authorization.ts";
import { bodyLimit, JsonBodies } from "./json-body.ts";
import { INTERNAL_PROBLEM, PROBLEM_TYPE, type Problem, problemOf } from "./problem.ts";
import type { Api, RouteParts } from "./route-parts.ts";
import { artifactRoutes } from "./routes/artifacts.ts";
import { cancelRoutes } from "./routes/cancel.ts";
import { deadLetterRoutes } from "./routes/dead-letters.ts";
import { fileContentRoutes } from "./routes/file-content.ts";
import { fileRoutes } from "./routes/files.ts";
import { fleetRoutes } from "./routes/fleet.ts";
import { healthRoutes } from "./routes/health.ts";
import { historyRoutes } from "./routes/history.ts";
import { MESSAGES_PATH, messageRoutes } from "./routes/messages.ts";
import { pushRoutes } from "./routes/push.ts";
import { scheduleRoutes } from "./routes/schedules.ts";
import { sessionRoutes } from "./routes/sessions.ts";
import { turnLogRoutes } from "./routes/turn-logs.ts";
import { uploadRoutes } from "./routes/uploads.ts";

/** How long a request may take to arrive, in ms: of an upload, mostly, which may not be silent for long in between. */
const REQUEST_TIMEOUT_MS = 3_600_000;
const PATH_MAX_LENGTH = 8_192;

export interface ApiOptions extends RouteParts {
  readonly board: QueueBoard;
  readonly log: Logger;
}

/** The HTTP API. It is not listening yet. */
export async function buildApi(options: ApiOptions): Promise<Api> {
  const { configuration, log, board } = options;
  const authorization = new Authorization(configuration);

  const fail = (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const found =
      problemOf(error, request.routeOptions.url === MESSAGES_PATH ? "message" : "body") ?? INTERNAL_PROBLEM;
    if (found.document.status >= 500) {
      log.error({ err: error, method: request.method, route: request.routeOptions.url }, "request failed");
    }
    if (found.document.status === 401) {
      reply.header("www-authenticate", isBoard(request) ? 'Basic realm="longshore"' : "Bearer");
    }
    return sendProblem(reply, found);
  };

  const app: Api = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    forceCloseConnections: "idle",
    requestTimeout: REQUEST_TIMEOUT_MS,
    routerOptions: { maxParamLength: PATH_MAX_LENGTH, ignoreTrailingSlash: true },
    // A path that can't even be decoded.
    frameworkErrors: (error, request, reply) => {
      try {
        authorization.checkKey(request);
        fail(error, request, reply);
      } catch (refused) {
        fail(refused, request, reply);
      }
    },
  }).withTypeProvider<ZodTypeProvider>();

  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.decorateRequest("identity", undefined);
  app.setErrorHandler(fail);
  app.setNotFoundHandler((request, reply) =>
    fail(new ApiError(404, "NOT_FOUND", "There is nothing at this path"), request, reply),
  );
  // Answered here, not thrown: bull-board has an error handler of its own, which knows no problem documents.
  app.addHook("onRequest", async (request, reply) => {
    try {
      authorization.check(request);
    } catch (error) {
      return fail(error, request, reply);
    }
  });

  const bodies = new JsonBodies({
    limit: (request) =>
      request.routeOptions.config.bodyBytes ?? bodyLimit(configuration(), request.identity?.tenant),
  });
  app.addHook("onRequest", async (request, reply) => {
    reply.raw.once("close", () => bodies.release(request));
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", (request: FastifyRequest, payload: IncomingMessage) =>
    bodies.read(request, payload),
  );

  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "Longshore", version: "1", description: "Chat agents on a fleet of Linux hosts." },
      components: { securitySchemes: { key: { type: "http", scheme: "bearer" } } },
      security: [{ key: [] }],
    },
    transform: jsonSchemaTransform,
  });
  await app.register(board.plugin(BOARD_PATH), { prefix: BOARD_PATH });

  healthRoutes(app, options);
  messageRoutes(app, { ...options, bodies });
  deadLetterRoutes(app, options);
  scheduleRoutes(app, options);
  fleetRoutes(app, options);
  artifactRoutes(app, options);
  sessionRoutes(app, options);
  fileRoutes(app, options);
  fileContentRoutes(app, options);
  await app.register(async (scope: Api) => uploadRoutes(scope, options));
  pushRoutes(app, options);
  historyRoutes(app, options);
  turnLogRoutes(app, options);
  cancelRoutes(app, options);
  app.get("/openapi.json", { schema: { hide: true } }, async () => app.swagger());
  return app;
}

function sendProblem(reply: FastifyReply, { document, retryAfterSeconds }: Problem): FastifyReply {
  if (retryAfterSeconds !== undefined) reply.header("retry-after", String(retryAfterSeconds));
  // A serialized document: the route's own response schemas are not for problems.
  return reply
    .code(document.status)
    .header("content-type", PROBLEM_TYPE)
    .serializer((payload: unknown) => payload as string)
    .send(JSON.stringify(document));
}
