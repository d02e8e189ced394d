/**
 * Logging as programs with a log directory set it up, on each of their threads.
 * @module
 */

import type { LogFilter } from "./filter.ts";
import { LogDirectory, writeBoth } from "./log_directory.ts";
import { type LogFormat, setUpLogging } from "./logging.ts";

/** What {@link setUpProgramLogging} is given. */
export interface ProgramLogging {
  /** `firezone-gateway`; begins the names of files. */
  readonly program: string;
  /** Which lines are wanted. */
  readonly filter: LogFilter | string;
  /** How lines look. */
  readonly format: LogFormat;
  /** Directory that they are written to as well; undefined for none. */
  readonly directory: string | undefined;
  /** Whether another thread owns the program's files. */
  readonly follow?: boolean;
}

/** Sets up this thread's logging. @throws ConfigError when nothing can be written there */
export function setUpProgramLogging(options: ProgramLogging): void {
  const { program, filter, format, directory, follow = false } = options;
  const files = directory === undefined
    ? undefined
    : LogDirectory.open(directory, { baseName: program, json: format === "json", follow });
  setUpLogging({ filter, format, ...files && { write: writeBoth(files) } });
}
