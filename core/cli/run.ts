/**
 * The outermost frame of a program.
 * @module
 */

import { isLogging } from "../telemetry/logging.ts";
import { describeFatal, EXIT_FAILURE } from "./errors.ts";

/**
 * Runs a program to its end and exits with the status it answers.
 *
 * An error that ends it is printed on stderr: operational ones in one line, with their stack only
 * when debug logging is on; bugs always with their stack. The exit status is then 1.
 */
export async function runMain(main: (args: readonly string[]) => Promise<number>): Promise<never> {
  let code: number;
  try {
    code = await main(Deno.args);
  } catch (error) {
    console.error(describeFatal(error, isLogging("debug")));
    code = EXIT_FAILURE;
  }
  Deno.exit(code);
}
