/**
 * What benches that make networks need before they begin.
 * @module
 */

import { InvalidArgumentError } from "@std/cli";
import { findCommand } from "@firezone/tests/requirements";
import { ensurePrivileges, PrivilegeError } from "../demo/privileges.ts";

/**
 * Whether a bench can run here; if not, stderr says why. From then on signals end it in a way that
 * takes its network along.
 *
 * @param script the bench's own file, which is started anew where that gives the privileges
 * @param commands programs that it runs
 */
export async function prepareBench(
  name: string,
  script: string,
  args: readonly string[],
  commands: readonly string[],
): Promise<boolean> {
  try {
    await ensurePrivileges(script, args);
  } catch (error) {
    if (!(error instanceof PrivilegeError)) throw error;
    console.error(`bench ${name}: cannot run here: it ${error.message}`);
    return false;
  }
  for (const command of commands) {
    if (findCommand(command) !== undefined) continue;
    console.error(`bench ${name}: cannot run here: it needs the command ${command}`);
    return false;
  }
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => Deno.exit(130)); // The network goes away on unload.
  }
  return true;
}

/** Reads the argument of an option that wants a number above zero. */
export function positive(text: string): number {
  const value = Number(text);
  if (value > 0) return value;
  throw new InvalidArgumentError("Expected a number above zero.");
}
