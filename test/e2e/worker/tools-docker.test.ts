import { describeTools } from "./describe-tools.ts";

describeTools("docker");
