import { describeMailbox } from "./describe-mailbox.ts";

describeMailbox("docker");
