/**
 * Network address translation for DNS resources.
 * @module
 */
export { type Assignment } from "./proxy_table.ts";
export { Nat, type NatOptions, type Translation } from "./nat.ts";
export { NoFlow } from "./flow_table.ts";
