/**
 * Logging: one line per event on stderr, for people or for machines.
 *
 * Every part of a program has a {@link Logger} named after it. Messages are constant sentences;
 * what varies goes into fields, which are made plain and freed of secrets (`fields.ts`) before any
 * sink sees them. A line below the wanted level costs one comparison.
 *
 * Levels: trace follows packets, debug small changes, info is news to the user, warn deserves an
 * alert, error ends something. Addresses and domain names stay at debug or below.
 *
 * Each thread sets up its own; stdout is never written to.
 * @module
 */

import { configureSync, getLogger, type LogRecord, resetSync } from "@std/log";
import { plainFields } from "./fields.ts";
import { LogFilter, type LogLevel, type LogRank, logRank, parseLogFilter } from "./filter.ts";
import { formatGoogleCloud, formatHuman, formatJson, type LogLine } from "./format.ts";

/** How lines may look. */
export const LOG_FORMATS = ["human", "json", "google-cloud"] as const;

/** How lines look. */
export type LogFormat = typeof LOG_FORMATS[number];

/** Values beside a message. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Takes the log lines of one part of a program. */
export interface Logger {
  /** The part's path, such as `["client", "portal"]`. */
  readonly target: readonly string[];
  /** Follows packets. */
  trace(message: string, fields?: LogFields): void;
  /** Small changes. */
  debug(message: string, fields?: LogFields): void;
  /** News to the user. */
  info(message: string, fields?: LogFields): void;
  /** Deserves an alert. */
  warn(message: string, fields?: LogFields): void;
  /** Ends something. */
  error(message: string, fields?: LogFields): void;
  /** Logs at a level that is only known at run time. */
  log(level: LogLevel, message: string, fields?: LogFields): void;
  /** Whether a line of this level would be written; for fields that are costly to make. */
  isEnabled(level: LogLevel): boolean;
  /** The logger of a part of this part. */
  child(...names: readonly string[]): Logger;
}

/** What {@link setUpLogging} is given. */
export interface LoggingOptions {
  /** Which lines are wanted; a text is parsed, one that makes no sense counts as `info`. */
  readonly filter?: LogFilter | string;
  /** How lines look; for people by default. */
  readonly format?: LogFormat;
  /** With the format of Google Cloud: the project in which traces are found. */
  readonly googleCloudProjectId?: string | undefined;
  /** ANSI colours; by default only if stderr is a terminal and `NO_COLOR` is not set. */
  readonly colour?: boolean;
  /** Takes each line, newline included; by default writes it to stderr. */
  readonly write?: (line: string) => void;
}

/** A record's level in the library's words, by our rank. */
const LIBRARY_LEVELS = ["trace", "debug", "info", "warning", "error"] as const;

let filter = new LogFilter("warn", [{ path: [], rank: logRank("warn") }]);
/** Counts set-ups, so that loggers made earlier notice that their level may have changed. */
let generation = 0;

/** Sets up this thread's logging; calling it again replaces the earlier set-up. */
export function setUpLogging(options: LoggingOptions = {}): void {
  const wanted = typeof options.filter === "string"
    ? parseLogFilter(options.filter)
    : options.filter;
  filter = wanted ?? parseLogFilter("info")!;
  generation++;
  const colour = options.colour ?? wantsColour();
  const write = options.write ?? writeToStderr;
  const format = (line: LogLine): string => {
    switch (options.format ?? "human") {
      case "human":
        return formatHuman(line, colour);
      case "json":
        return formatJson(line);
      case "google-cloud":
        return formatGoogleCloud(line, options.googleCloudProjectId);
    }
  };
  resetSync();
  configureSync({
    sinks: { stderr: (record: LogRecord) => write(format(toLine(record))) },
    loggers: [
      { category: [], lowestLevel: "trace", sinks: ["stderr"] },
      // The library's own remarks would mix with ours.
      { category: ["logtape"], lowestLevel: "error", sinks: ["stderr"], parentSinks: "override" },
    ],
  });
}

/** Replaces the filter of this thread, at once for all loggers. */
export function setLogFilter(wanted: LogFilter): void {
  filter = wanted;
  generation++;
}

/** The logger of the part that `target` names, outermost first: `logger("client", "portal")`. */
export function logger(...target: readonly string[]): Logger {
  return new TargetLogger(target);
}

/** Whether lines of this level are wanted by default, that is from parts not named in the filter. */
export function isLogging(level: LogLevel): boolean {
  return logRank(level) >= filter.rankFor([]);
}

/** The filter in force, as text; a worker thread sets up its own logging with it. */
export function logFilterText(): string {
  return filter.text;
}

class TargetLogger implements Logger {
  readonly target: readonly string[];
  readonly #library: ReturnType<typeof getLogger>;
  #rank: LogRank = 0;
  #generation = -1;

  constructor(target: readonly string[]) {
    this.target = target;
    this.#library = getLogger([...target]);
  }

  trace(message: string, fields?: LogFields): void {
    this.#log(0, message, fields);
  }

  debug(message: string, fields?: LogFields): void {
    this.#log(1, message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#log(2, message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#log(3, message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#log(4, message, fields);
  }

  log(level: LogLevel, message: string, fields?: LogFields): void {
    this.#log(logRank(level), message, fields);
  }

  isEnabled(level: LogLevel): boolean {
    return logRank(level) >= this.#wantedRank();
  }

  child(...names: readonly string[]): Logger {
    return new TargetLogger([...this.target, ...names]);
  }

  #wantedRank(): LogRank {
    if (this.#generation !== generation) {
      this.#generation = generation;
      this.#rank = filter.rankFor(this.target);
    }
    return this.#rank;
  }

  #log(rank: LogRank, message: string, fields: LogFields | undefined): void {
    if (rank < this.#wantedRank()) return;
    this.#library.emit({
      timestamp: Date.now(),
      level: LIBRARY_LEVELS[rank]!,
      rawMessage: message,
      message: [message],
      properties: fields === undefined ? {} : plainFields(fields),
    });
  }
}

function toLine(record: LogRecord): LogLine {
  const level = record.level === "warning" ? "warn" : record.level;
  return {
    timeMs: record.timestamp,
    level: level === "fatal" ? "error" : level,
    target: record.category.join("."),
    message: record.message.map(String).join(""),
    fields: plainFields(record.properties),
  };
}

const encoder = new TextEncoder();

/** Writes a line as it is; where nobody listens it is lost. */
export function writeToStderr(line: string): void {
  const bytes = encoder.encode(line);
  try {
    for (let done = 0; done < bytes.length;) done += Deno.stderr.writeSync(bytes.subarray(done));
  } catch {
    // Nobody reads our log any more; that is no reason to stop carrying packets.
  }
}

function wantsColour(): boolean {
  return !Deno.noColor && Deno.stderr.isTerminal();
}
