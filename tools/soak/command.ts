/**
 * What the soaks' command lines share.
 * @module
 */

import { InvalidArgumentError } from "@std/cli";
import { ensurePrivileges, PrivilegeError } from "../demo/privileges.ts";

/** Reads an option's value that must be above zero. */
export function positive(text: string): number {
  const value = Number(text);
  if (value > 0) return value;
  throw new InvalidArgumentError("Expected a number above zero.");
}

/**
 * Makes sure that namespaces can be made, and that they go away with a signal.
 *
 * @returns false when not; that was said then
 */
export async function prepare(name: string, file: string, args: readonly string[]) {
  try {
    await ensurePrivileges(file, args);
  } catch (error) {
    if (!(error instanceof PrivilegeError)) throw error;
    console.error(`soak ${name}: cannot run here: it ${error.message}`);
    return false;
  }
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => Deno.exit(130)); // The network goes away on unload.
  }
  return true;
}

/** The most memory that a process had so far, looked at again and again. */
export class MemoryWatch implements Disposable {
  /** Most resident bytes so far. */
  most = 0;
  readonly #look: () => number;
  readonly #timer: ReturnType<typeof setInterval>;

  /** Looks ten times a second. @param look tells resident bytes */
  constructor(look: () => number) {
    this.#look = look;
    this.#timer = setInterval(() => this.now(), 100);
  }

  /** Resident bytes now. */
  now(): number {
    const now = this.#look();
    this.most = Math.max(this.most, now);
    return now;
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
