import { describeWarm } from "./describe-warm.ts";

describeWarm("docker");
