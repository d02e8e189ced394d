/**
 * What the programs tell about themselves: logs.
 * @module
 */
export * from "./filter.ts";
export * from "./logging.ts";
