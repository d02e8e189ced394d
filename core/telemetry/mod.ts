/**
 * What the programs tell about themselves: logs, metrics, spans.
 * @module
 */
export * from "./attributes.ts";
export * from "./distribution.ts";
export * from "./filter.ts";
export * from "./log_directory.ts";
export * from "./logging.ts";
export * from "./metrics.ts";
export * from "./program_logging.ts";
export * from "./prometheus.ts";
export * from "./resource.ts";
export * from "./tracing.ts";
