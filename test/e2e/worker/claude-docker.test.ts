import { describeClaude } from "./describe-claude.ts";

describeClaude("docker");
