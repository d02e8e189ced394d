/**
 * Kernel parameters under /proc/sys, put back as they were.
 *
 * Former values are also kept in a file, the journal, until they are back: a process that was killed
 * leaves it to its successor, which puts back what the first one found.
 * @module
 */

import { dirname } from "node:path";
import { Errno, OsError } from "./errno.ts";

/** How to build {@link Sysctls}. */
export interface SysctlsOptions {
  /** Folder of the parameters; /proc/sys if absent. */
  readonly root?: string;
  /** File that keeps former values: JSON, an object of values by name. Without it they end with the
   * process. It must be lost with the parameters, at a reboot: below /run. */
  readonly journal?: string;
}

/** Changes parameters and remembers what they were. */
export class Sysctls {
  readonly #root: string;
  readonly #journal: string | undefined;
  readonly #previous: Map<string, string>;

  /** Nothing changed yet, but by a predecessor that was killed. */
  constructor(options: SysctlsOptions = {}) {
    this.#root = options.root ?? "/proc/sys";
    this.#journal = options.journal;
    this.#previous = new Map(options.journal === undefined ? [] : readJournal(options.journal));
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
    const isFirst = !this.#previous.has(name);
    if (isFirst) this.#remember(name, previous);
    try {
      this.#put(name, value);
    } catch (error) {
      if (isFirst) this.#forget(name);
      throw this.#failure("write", name, error);
    }
    return "done";
  }

  /** Puts everything back, last change first, what a predecessor changed too.
   * @returns names that could not be put back */
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
    this.#writeJournal();
    return failed;
  }

  #remember(name: string, value: string): void {
    this.#previous.set(name, value);
    this.#writeJournal();
  }

  #forget(name: string): void {
    this.#previous.delete(name);
    this.#writeJournal();
  }

  /** Without a journal the parameters are still put back in order: no reason to give up. */
  #writeJournal(): void {
    const path = this.#journal;
    if (path === undefined) return;
    try {
      if (this.#previous.size === 0) return Deno.removeSync(path);
      Deno.mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
      Deno.writeTextFileSync(`${path}.new`, JSON.stringify(Object.fromEntries(this.#previous)));
      Deno.renameSync(`${path}.new`, path);
    } catch {
      return;
    }
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

/** What a predecessor has left to be put back; nothing when the file says nothing that makes sense. */
function readJournal(path: string): [name: string, value: string][] {
  try {
    const entries: [string, unknown][] = Object.entries(JSON.parse(Deno.readTextFileSync(path)));
    return entries.filter((entry): entry is [string, string] =>
      typeof entry[1] === "string" && !entry[0].split("/").includes("..")
    );
  } catch {
    return [];
  }
}
