import { describe, expect, it } from "vitest";
import { signWebhook } from "./webhook-signature.ts";

describe("signWebhook", () => {
  it("signs as the specification's own example", () => {
    expect(
      signWebhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: 1_614_265_330,
        body: '{"test": 2432232314}',
      })["webhook-signature"],
    ).toBe("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
  });

  it("takes a secret without the prefix as it is", () => {
    const parts = { id: "a", timestamp: 1, body: "{}" };
    const key = Buffer.from("plain text secret").toString("base64");
    expect(signWebhook("plain text secret", parts)).toEqual(signWebhook(`whsec_${key}`, parts));
  });

  it("depends on each part", () => {
    const parts = { id: "a", timestamp: 1, body: "{}" };
    const signatures = [
      parts,
      { ...parts, id: "b" },
      { ...parts, timestamp: 2 },
      { ...parts, body: "[]" },
    ].map((signed) => signWebhook("secret", signed)["webhook-signature"]);
    expect(new Set(signatures).size).toBe(4);
  });
});
