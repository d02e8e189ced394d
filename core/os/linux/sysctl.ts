/**
 * Kernel parameters under /proc/sys, put back as they were.
 * @module
 */

import { Errno, OsError } from "./errno.ts";

/** Changes parameters and remembers what they were. */
export class Sysctls {
  readonly #root: string;
  readonly #previous = new Map<string, string>();

  /** Nothing changed yet.
   * @param root folder of the parameters, for tests */
  constructor(root = "/proc/sys") {
    this.#root = root;
  }

  /** Reads a parameter, such as `net/ipv4/ip_forward`; undefined when the kernel has none of that name. */
  read(name: string): string | undefined {
    try {
      return Deno.readTextFileSync(`${this.#root}/${name}`).trim();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw this.#failure("read", name, error);
    }
  }

  /**
   * Sets a parameter.
   *
   * @returns "done", "exists" when it had that value, "absent" when the kernel has none of that name
   * @throws OsError EACCES when it may not be written, as in a container with /proc/sys read-only
   */
  write(name: string, value: string): "done" | "exists" | "absent" {
    const previous = this.read(name);
    if (previous === undefined) return "absent";
    if (previous === value) return "exists";
    try {
      this.#put(name, value);
    } catch (error) {
      throw this.#failure("write", name, error);
    }
    if (!this.#previous.has(name)) this.#previous.set(name, previous);
    return "done";
  }

  /** Puts everything back, last change first. @returns names that could not be put back */
  restore(): string[] {
    const failed: string[] = [];
    for (const [name, value] of [...this.#previous].reverse()) {
      try {
        this.#put(name, value);
      } catch {
        failed.push(name); // the interface it belonged to may be gone
      }
    }
    this.#previous.clear();
    return failed;
  }

  #put(name: string, value: string): void {
    Deno.writeTextFileSync(`${this.#root}/${name}`, value, { create: false });
  }

  #failure(action: string, name: string, error: unknown): OsError {
    const hint = "run as root, or set it from outside the container";
    if (error instanceof Deno.errors.PermissionDenied || /os error 30/.test(String(error))) {
      return new OsError(action, `${this.#root}/${name}`, Errno.EACCES, hint);
    }
    return new OsError(action, `${this.#root}/${name}`, Errno.EIO, String(error));
  }
}
