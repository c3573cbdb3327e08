import { z } from "zod";
import { configurationSchema } from "./configuration-schema.ts";

/** What of JSON Schema zod writes for the configuration. */
interface Node {
  readonly type?: string;
  /** A quantity with a unit says here what it is and its bounds. */
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Node | boolean;
  readonly items?: Node;
  readonly anyOf?: readonly Node[];
  readonly enum?: readonly string[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxItems?: number;
}

interface Row {
  readonly key: string;
  readonly kind: string;
  readonly fallback: string;
  readonly description: string;
}

/** The reference of the configuration file, in Markdown: a table for each top-level key, from the schema itself. */
export function configurationReference(): string {
  const schema = z.toJSONSchema(configurationSchema, { io: "input", unrepresentable: "any" }) as Node;
  return Object.entries(schema.properties ?? {})
    .map(([name, node]) => section(name, node, schema.required?.includes(name) ?? false))
    .join("\n");
}

function section(name: string, node: Node, required: boolean): string {
  const rows = rowsBelow(name, node);
  if (rows.length === 0) {
    const fallback = fallbackOf(node);
    const unless = fallback === undefined ? "" : ` Default: ${fallback}.`;
    return `## \`${name}\`\n\n${node.description ?? ""} Value: ${kindOf(node)}.${unless}\n`;
  }
  const table = rows.map(
    ({ key, kind, fallback, description }) =>
      `| ${[`\`${key}\``, kind, fallback, description].map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`,
  );
  const head = "| key | value | default | |\n| --- | --- | --- | --- |\n";
  const about = [required ? "Required." : "", node.description ?? ""].filter(Boolean).join(" ");
  return `## \`${name}\`\n\n${about === "" ? "" : `${about}\n\n`}${head}${table.join("")}`;
}

/** A row for each key below; groups of keys have one of their own only where there is something to say of them. */
function rowsBelow(path: string, node: Node): Row[] {
  if (node.anyOf !== undefined) return node.anyOf.flatMap((option) => rowsBelow(path, option));
  if (node.items !== undefined) return isGroup(node.items) ? rowsBelow(`${path}[]`, node.items) : [];
  const named = node.additionalProperties;
  if (typeof named === "object") return rowsBelow(`${path}.<name>`, named);
  return Object.entries(node.properties ?? {}).flatMap(([name, child]) => {
    const key = `${path}.${name}`;
    const below = rowsBelow(key, child);
    const described = below.length === 0 || child.description !== undefined;
    return described ? [rowOf(key, child, node.required?.includes(name) ?? false), ...below] : below;
  });
}

function rowOf(key: string, node: Node, required: boolean): Row {
  const fallback = required ? "required" : (fallbackOf(node) ?? "none");
  return { key, kind: kindOf(node), fallback, description: node.description ?? "" };
}

function fallbackOf({ default: given }: Node): string | undefined {
  const isEmpty = typeof given === "object" && Object.keys(given ?? {}).length === 0;
  return given === undefined || isEmpty ? undefined : code(given);
}

function kindOf(node: Node): string {
  if (node.title !== undefined) return node.title;
  if (node.const !== undefined) return code(node.const);
  if (node.enum !== undefined) return node.enum.map(code).join(", ");
  if (node.anyOf !== undefined) return node.anyOf.map(kindOf).join(" or ");
  if (node.items !== undefined) {
    const most = node.maxItems === undefined ? "" : ` (at most ${node.maxItems})`;
    return `list of ${isGroup(node.items) ? "groups" : kindOf(node.items)}${most}`;
  }
  if (typeof node.additionalProperties === "object") return `${kindOf(node.additionalProperties)} by name`;
  if (node.type === "integer" || node.type === "number") {
    return `${node.type === "integer" ? "whole number" : "number"}${rangeOf(node)}`;
  }
  return node.type === "object" ? "group" : node.type === "string" ? "text" : (node.type ?? "any");
}

function rangeOf({ minimum, maximum }: Node): string {
  return minimum === undefined || maximum === undefined ? "" : ` from ${minimum} to ${maximum}`;
}

function isGroup(node: Node): boolean {
  return node.properties !== undefined || node.anyOf?.some(isGroup) === true;
}

function code(value: unknown): string {
  return `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;
}
