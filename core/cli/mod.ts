/**
 * What every program's command line shares: options with variables behind them, values, errors in
 * one line, exit status, secrets.
 * @module
 */
export * from "./command.ts";
export * from "./env.ts";
export * from "./errors.ts";
export * from "./identity.ts";
export * from "./log_options.ts";
export * from "./run.ts";
export { fetchStatus, statusCommand, type StatusCommandOptions } from "./status_command.ts";
export * from "./token.ts";
export * from "./tunnel_options.ts";
export * from "./values.ts";
export { Secret } from "../secret.ts";
