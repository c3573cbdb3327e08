import { describe, expect, it } from "vitest";
import { chosenOption, questionText } from "./question.ts";

describe("a question", () => {
  it("numbers its options", () => {
    expect(questionText({ text: "Delete it?", options: ["yes", "no"] })).toBe("Delete it?\n1. yes\n2. no");
    expect(questionText({ text: "Which one?", options: [] })).toBe("Which one?");
  });

  it.each([
    ["Yes", 0],
    [" no \n", 1],
    ["2", 1],
    ["1.", 0],
    ["2)", 1],
    ["3", undefined],
    ["0", undefined],
    ["yes please", undefined],
    ["", undefined],
  ])("takes %j for option %s", (text, option) => {
    expect(chosenOption(text, ["yes", "no"])).toBe(option);
  });

  it("takes a number for an option's words first", () => {
    expect(chosenOption("2", ["2", "1"])).toBe(0);
  });
});
