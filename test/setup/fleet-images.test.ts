import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { beforeAll, describe, expect, it } from "vitest";
import { debianBase } from "../../infra/setup/debian-base.ts";
import { buildFleetImages, type FleetImages } from "../../infra/setup/fleet-images.ts";
import { engineAt } from "../../infra/setup/provided-services.ts";

const engineUrl = process.env.DOCKER_HOST;
if (engineUrl === undefined) {
  throw new Error("DOCKER_HOST names no engine: run this through `npm test`");
}
const engine = engineAt(engineUrl);

describe("the fleet's images", () => {
  let images: FleetImages;

  beforeAll(async () => {
    const context = { report: () => undefined };
    images = await buildFleetImages(engine, await debianBase(context), context);
  }, 300_000);

  /** What a command of an image prints, without network. */
  async function output(image: string, command: string[], entrypoint?: string[]): Promise<string> {
    const out = new PassThrough();
    const printed = text(out);
    // Removed by itself, one that ends at once may be gone before its end is asked for.
    const [, container] = await engine.run(image, command, out, {
      Tty: true,
      HostConfig: { NetworkMode: "none" },
      ...(entrypoint === undefined ? {} : { Entrypoint: entrypoint }),
    });
    await container.remove();
    out.end();
    return await printed;
  }

  it.each(["dispatcher", "worker"] as const)("%s starts, and says which settings it lacks", async (app) => {
    expect(await output(images[app], [])).toContain("OBJECT_STORE_URL: given nothing");
  });

  it.each([
    ["dispatcher", "10001"],
    ["worker", "0"],
  ] as const)("%s runs as user %s", async (app, user) => {
    expect((await output(images[app], ["-u"], ["id"])).trim()).toBe(user);
  });

  it.each(["dispatcher", "worker"] as const)("%s has a health check and no tests", async (app) => {
    const { Config } = await engine.getImage(images[app]).inspect();
    expect(Config.Healthcheck?.Test?.[0]).toBe("CMD");
    expect(await output(images[app], ["packages", "apps", "-name", "*.test.ts"], ["find"])).toBe("");
  });

  it("the worker has bubblewrap", async () => {
    expect(await output(images.worker, ["--version"], ["bwrap"])).toContain("bubblewrap");
  });

  it("are built once for the same content", async () => {
    const context = { report: () => undefined };
    expect(await buildFleetImages(engine, await debianBase(context), context)).toEqual(images);
  });
});
