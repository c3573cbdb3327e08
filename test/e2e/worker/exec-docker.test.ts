import { describeExec } from "./describe-exec.ts";

describeExec("docker");
