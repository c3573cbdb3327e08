import { describeExec } from "./describe-exec.ts";

describeExec("bwrap");
