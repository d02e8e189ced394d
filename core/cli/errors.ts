/**
 * Errors that an operator can mend, and how any error is told to them.
 * @module
 */

import { ConfigError } from "../config_error.ts";

export { ConfigError };

/** Exit status of a program that did what it was asked to. */
export const EXIT_OK = 0;

/** Exit status of a program that could not start or could not go on. */
export const EXIT_FAILURE = 1;

/** Whether the error comes from the surroundings (a mistake, the system) rather than from a bug. */
export function isOperational(error: unknown): boolean {
  if (error instanceof ConfigError) return true;
  if (!(error instanceof Error)) return false;
  if (error.name === "OsError") return true;
  return Object.values(Deno.errors).some((type) => error instanceof type);
}

/**
 * What to print for an error that ended the program, without a final newline.
 *
 * Operational errors are one line unless `withStack`; a bug always shows its stack, because nobody
 * can say what to do about it without.
 */
export function describeFatal(error: unknown, withStack: boolean): string {
  if (!(error instanceof Error)) return `Internal error: ${String(error)}`;
  if (!isOperational(error)) return `Internal error: ${error.stack ?? error.message}`;
  const line = firstCauses(error);
  return withStack && error.stack !== undefined ? `${line}\n${error.stack}` : line;
}

/** `message: cause: cause of that`, on one line; a cause that the text already holds is left out. */
function firstCauses(error: Error): string {
  let text = error.message;
  let cause = error.cause;
  for (let depth = 0; depth < 4 && cause instanceof Error; depth++) {
    if (!text.includes(cause.message)) text += `: ${cause.message}`;
    cause = cause.cause;
  }
  return text.replace(/\s*\n\s*/g, " ");
}
