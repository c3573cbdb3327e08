import { expect, test } from "vitest";
import { SandboxSpecError } from "../errors.ts";
import { parseEngineAddress } from "./address.ts";

test("sockets and hosts are understood", () => {
  expect(parseEngineAddress("unix:///run/docker.sock")).toEqual({ socketPath: "/run/docker.sock" });
  expect(parseEngineAddress("tcp://127.0.0.1:2375")).toEqual({ hostname: "127.0.0.1", port: 2375 });
  expect(parseEngineAddress("tcp://[::1]:99")).toEqual({ hostname: "::1", port: 99 });
  expect(parseEngineAddress("tcp://engine")).toEqual({ hostname: "engine", port: 2375 });
});

test.each(["", "unix://run/docker.sock", "ssh://host", "https://host", "tcp://host/path", "docker.sock"])(
  "%j is refused",
  (address) => {
    expect(() => parseEngineAddress(address)).toThrow(SandboxSpecError);
  },
);
