import fc from "fast-check";
import { expect, test } from "vitest";
import { containerLabels, labelsOfContainer } from "./labels.ts";

test("labels survive the way to a container and back", () => {
  fc.assert(
    fc.property(
      fc.record(
        {
          host: fc.string(),
          worker: fc.string(),
          tenant: fc.string(),
          sessionId: fc.string(),
          epoch: fc.maxSafeNat(),
          nonce: fc.string(),
          definition: fc.string(),
        },
        { requiredKeys: ["host", "worker", "tenant", "sessionId", "epoch", "nonce"] },
      ),
      (labels) => {
        expect(labelsOfContainer(containerLabels(labels, "/run/longshore"))).toEqual(labels);
      },
    ),
  );
});

test("a container that lacks one of them is not ours", () => {
  const labels = { host: "h", worker: "w", tenant: "t", sessionId: "s", epoch: 7, nonce: "n" };
  const all = containerLabels(labels, "/run/longshore");
  for (const name of Object.keys(all).filter((label) => !label.endsWith("run-directory"))) {
    const { [name]: _, ...rest } = all;
    expect(labelsOfContainer(rest)).toBeUndefined();
  }
  expect(labelsOfContainer({ ...all, "longshore.epoch": "many" })).toBeUndefined();
});
