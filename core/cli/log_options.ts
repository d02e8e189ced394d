/**
 * The options about logging, which every program has.
 * @module
 */

import { type LogFilter, type LogFormat, parseLogFilter } from "../telemetry/mod.ts";
import { option, type OptionSpec } from "./command.ts";
import { oneOf, type ValueKind } from "./values.ts";

const filterKind: ValueKind<LogFilter> = {
  expected: "a level (trace, debug, info, warn, error, off) or levels by part, " +
    "such as info,portal=debug",
  parse: parseLogFilter,
};

/** `--log-level`, with `RUST_LOG` behind it. */
export const logLevelOption: OptionSpec<LogFilter> = option({
  flags: "--log-level <filter>",
  description: "how much to log, such as debug or info,portal=debug",
  env: "RUST_LOG",
  kind: filterKind,
  default: parseLogFilter("info")!,
  defaultText: "info",
});

/** `--log-format`, with `FIREZONE_LOG_FORMAT` behind it. */
export const logFormatOption: OptionSpec<LogFormat> = option({
  flags: "--log-format <format>",
  description: "how log lines look",
  env: "FIREZONE_LOG_FORMAT",
  kind: oneOf("human", "json"),
  default: "human",
});
