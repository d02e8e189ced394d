/**
 * Mistakes of an operator, which every room may find.
 * @module
 */

/**
 * A mistake in how the program was started: a flag, a variable, a file, a missing privilege.
 *
 * The message is one line that says what was tried, with which value, and what was expected:
 * `Cannot read token file /etc/x: expected mode 0600 or 0400, found 0644`.
 */
export class ConfigError extends Error {
  /** Its class, which survives minifying. */
  override readonly name = "ConfigError";
}
