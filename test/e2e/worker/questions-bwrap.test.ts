import { describeQuestions } from "./describe-questions.ts";

describeQuestions("bwrap");
