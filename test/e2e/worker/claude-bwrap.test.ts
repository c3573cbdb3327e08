import { describeClaude } from "./describe-claude.ts";

describeClaude("bwrap");
