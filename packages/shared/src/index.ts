export { LongshoreError } from "./errors.ts";
