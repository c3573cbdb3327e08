import { describeRecovery } from "./describe-recovery.ts";

describeRecovery("bwrap");
