/**
 * How a log line looks: for people, or as one JSON object per line, also as Google Cloud wants it.
 * @module
 */

import type { Plain } from "./fields.ts";
import type { LogLevel } from "./filter.ts";

/** A line before it is written. */
export interface LogLine {
  /** Wall-clock milliseconds since 1970. */
  readonly timeMs: number;
  /** Severity. */
  readonly level: LogLevel;
  /** Dotted path of the part that wrote it. */
  readonly target: string;
  /** The constant sentence. */
  readonly message: string;
  /** What varies; already plain and free of secrets. */
  readonly fields: Readonly<Record<string, Plain>>;
}

const LABELS: Readonly<Record<LogLevel, string>> = {
  trace: "TRACE",
  debug: "DEBUG",
  info: " INFO",
  warn: " WARN",
  error: "ERROR",
};

const COLOURS: Readonly<Record<LogLevel, string>> = {
  trace: "\x1b[35m",
  debug: "\x1b[34m",
  info: "\x1b[32m",
  warn: "\x1b[33m",
  error: "\x1b[31m",
};

/** `2026-01-02T03:04:05.678Z  INFO client.portal: Joined era=v2`, newline included. */
export function formatHuman(line: LogLine, colour: boolean): string {
  const [dim, level, reset] = colour ? ["\x1b[2m", COLOURS[line.level], "\x1b[0m"] : ["", "", ""];
  const time = new Date(line.timeMs).toISOString();
  let text = `${dim}${time}${reset} ${level}${LABELS[line.level]}${reset} ` +
    `${dim}${line.target}:${reset} ${oneLine(line.message)}`;
  for (const [name, value] of Object.entries(line.fields)) {
    text += ` ${dim}${name}=${reset}${oneLine(fieldText(value))}`;
  }
  return `${text}\n`;
}

/** An object with `time`, `level`, `target`, `message` and, if there are any, `fields`. */
export function formatJson(line: LogLine): string {
  const hasFields = Object.keys(line.fields).length > 0;
  return JSON.stringify({
    time: new Date(line.timeMs).toISOString(),
    level: line.level,
    target: line.target,
    message: line.message,
    ...(hasFields ? { fields: line.fields } : {}),
  }) + "\n";
}

const SEVERITIES: Readonly<Record<LogLevel, string>> = {
  trace: "DEBUG",
  debug: "DEBUG",
  info: "INFO",
  warn: "WARNING",
  error: "ERROR",
};

/**
 * An object as Google Cloud's logging agent reads it: `severity`, `time`, `message`, the rest as
 * payload.
 *
 * Fields `trace_id` and `span_id` lead from the line to its trace, which takes the project's id.
 *
 * Spec: cloud.google.com/logging/docs/structured-logging, "Special fields".
 */
export function formatGoogleCloud(line: LogLine, projectId: string | undefined): string {
  const { trace_id, span_id, ...fields } = line.fields;
  const isTraced = projectId !== undefined && trace_id !== undefined;
  return JSON.stringify({
    severity: SEVERITIES[line.level],
    time: new Date(line.timeMs).toISOString(),
    message: line.message,
    target: line.target,
    ...(Object.keys(fields).length > 0 ? { fields } : {}),
    ...(isTraced
      ? {
        "logging.googleapis.com/trace": `projects/${projectId}/traces/${trace_id}`,
        "logging.googleapis.com/spanId": span_id,
        "logging.googleapis.com/trace_sampled": true,
      }
      : {}),
  }) + "\n";
}

function fieldText(value: Plain): string {
  if (typeof value !== "string") return JSON.stringify(value);
  return value !== "" && !/[\s"=]/.test(value) ? value : JSON.stringify(value);
}

/** Control characters could forge lines or steer the reader's terminal. */
function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f]/g, (c) => {
    if (c === "\n") return "\\n";
    return `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}
