/**
 * The configuration file: its format, its mistakes, its meaning.
 * @module
 */
export * from "./config.ts";
export { formatMistake, type Mistake } from "./mistake.ts";
export * from "./parse.ts";
export * from "./starter.ts";
export { tokenHash } from "./values.ts";
