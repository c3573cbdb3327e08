import { expect, it } from "vitest";
import { userPath } from "./user-path.ts";

const of = (id: string, channel = "http") => userPath({ channel, sender: { id } });

it.each(["ada", "U01", "ada@example.org", "a+b=c", "-x", "..."])("the id %s is told as it is", (id) => {
  expect(of(id)).toBe(`http/${id}`);
});

it.each(["", ".", "..", "../x", "a/b", "~x", "ü", "a b", "x".repeat(101), "a\0"])(
  "the id %j is told by its hash, which no other one has",
  (id) => {
    expect(of(id)).toMatch(/^http\/~[0-9a-z]+$/);
    expect(of(id)).not.toBe(of(`${id}x`));
    expect(of(id).split("/")[1]).not.toBe(of(id, "slack").split("/")[1]);
  },
);

it("is another one's on another channel", () => {
  expect(of("ada", "slack")).toBe("slack/ada");
});
