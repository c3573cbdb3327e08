import { describeMailbox } from "./describe-mailbox.ts";

// The other side of the databases is in the sandbox too, so that file locks are those of one kernel.
describeMailbox("docker", "runsc");
