import { describeMailbox } from "./describe-mailbox.ts";

describeMailbox("bwrap");
