/**
 * Log lines in files: `firezone-gateway.2026-01-02-03-04-05.log` (UTC, `.jsonl` for JSON), and
 * `latest`, a link to the one that was begun last, whichever program it is of.
 *
 * A file that has become large is followed by another; when all together are too large the oldest
 * go. A file that somebody removed is made again. Once writing fails (a full disk) lines are lost,
 * the program is not; they go on as soon as there is room.
 *
 * One thread owns a program's files, others of the process follow to the newest one.
 * @module
 */

import { ConfigError } from "../config_error.ts";
import { writeToStderr } from "./logging.ts";

/** What {@link LogDirectory.open} is given. */
export interface LogDirectoryOptions {
  /** Whether lines are JSON, which shows in the names. */
  readonly json?: boolean;
  /** Begins the names: the program's, so that several may share a directory. */
  readonly baseName: string;
  /** For threads beside the one that owns the directory: writes where that one does. */
  readonly follow?: boolean;
  /** Size at which a file is followed by another, in bytes. */
  readonly maxFileBytes?: number;
  /** Size of all files together, in bytes. */
  readonly maxTotalBytes?: number;
  /** Milliseconds since 1970; the wall clock if left out. */
  readonly now?: () => number;
}

const MAX_FILE_BYTES = 10_000_000;
const MAX_TOTAL_BYTES = 100_000_000;
/** How often it is looked whether the file is still the right one. */
const CHECK_MS = 1_000;
const CLEAN_UP_MS = 3_600_000;
const FILE_MODE = 0o640;
const DIRECTORY_MODE = 0o750;
const LATEST = "latest";

const encoder = new TextEncoder();

/** See the head of this file. */
export class LogDirectory {
  /** Where the files are. */
  readonly path: string;
  readonly #options: LogDirectoryOptions;
  readonly #pattern: RegExp;
  #name = "";
  #file: Deno.FsFile | undefined;
  #inode: number | null = null;
  #size = 0;
  #checkedAt = 0;
  #cleanedAt = 0;

  /**
   * Makes the directory if need be, and a file in it.
   *
   * @throws ConfigError when nothing can be written there
   */
  static open(path: string, options: LogDirectoryOptions): LogDirectory {
    const directory = new LogDirectory(path, options);
    try {
      if (options.follow) directory.#check();
      else {
        Deno.mkdirSync(path, { recursive: true, mode: DIRECTORY_MODE });
        directory.#begin();
      }
    } catch (error) {
      throw new ConfigError(`Cannot write logs to ${path}: name another --log-dir`, {
        cause: error,
      });
    }
    return directory;
  }

  private constructor(path: string, options: LogDirectoryOptions) {
    this.path = path;
    this.#options = options;
    this.#pattern = new RegExp(`^${RegExp.escape(options.baseName)}\\.[-0-9]{19}\\.(log|jsonl)$`);
  }

  /** Appends a line, newline included; colours are left out. Never throws. */
  write(line: string): void {
    // Other control characters do not occur in lines, so these are colours.
    // deno-lint-ignore no-control-regex
    const bytes = encoder.encode(line.replace(/\x1b\[\d*m/g, ""));
    try {
      if (this.#now() - this.#checkedAt >= CHECK_MS) this.#check();
      if (!this.#file) return;
      for (let done = 0; done < bytes.length;) {
        done += this.#file.writeSync(bytes.subarray(done));
      }
      this.#size += bytes.length;
      if (!this.#options.follow && this.#size >= this.#maxFileBytes) this.#begin();
    } catch {
      // There is no better place to say so.
    }
  }

  /** Ends writing; lines after that are lost. */
  close(): void {
    this.#file?.close();
    this.#file = undefined;
    this.#checkedAt = Infinity;
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  get #maxFileBytes(): number {
    return this.#options.maxFileBytes ?? MAX_FILE_BYTES;
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  /** Begins a file named after this second; one of that name goes on. */
  #begin(): void {
    const second = new Date(this.#now()).toISOString().slice(0, 19).replace(/[T:]/g, "-");
    const extension = this.#options.json ? "jsonl" : "log";
    this.#openFile(`${this.#options.baseName}.${second}.${extension}`, true);
    const link = `${this.path}/.${LATEST}.${Deno.pid}`;
    Deno.symlinkSync(this.#name, link);
    Deno.renameSync(link, `${this.path}/${LATEST}`);
    this.#cleanUp();
  }

  #openFile(name: string, create: boolean): void {
    const path = `${this.path}/${name}`;
    const file = Deno.openSync(path, { append: true, create, mode: FILE_MODE });
    this.#file?.close();
    this.#file = file;
    this.#name = name;
    const { ino, size } = file.statSync();
    this.#inode = ino;
    this.#size = size;
    this.#checkedAt = this.#now();
  }

  #check(): void {
    this.#checkedAt = this.#now();
    if (this.#options.follow) {
      const newest = this.#ownNames().at(-1);
      const isThere = newest !== undefined && inodeOf(`${this.path}/${newest}`) === this.#inode;
      if (newest !== undefined && !isThere) this.#openFile(newest, false);
      return;
    }
    if (this.#name === "" || inodeOf(`${this.path}/${this.#name}`) !== this.#inode) {
      Deno.mkdirSync(this.path, { recursive: true, mode: DIRECTORY_MODE });
      this.#begin();
    }
    if (this.#now() - this.#cleanedAt >= CLEAN_UP_MS) this.#cleanUp();
  }

  /** The program's files, oldest first: the time in a name sorts like its text. */
  #ownNames(): string[] {
    if (this.#options.follow && !isDirectory(this.path)) return [];
    return Array.from(Deno.readDirSync(this.path), (entry) => entry.name)
      .filter((name) => this.#pattern.test(name)).sort();
  }

  /** Removes the oldest files until the rest is small enough; the one that is written stays. */
  #cleanUp(): void {
    this.#cleanedAt = this.#now();
    const names = this.#ownNames().filter((name) => name !== this.#name);
    let total = this.#size;
    const limit = this.#options.maxTotalBytes ?? MAX_TOTAL_BYTES;
    for (const name of names.reverse()) {
      const path = `${this.path}/${name}`;
      try {
        total += Deno.statSync(path).size;
        if (total > limit) Deno.removeSync(path);
      } catch {
        // Somebody else removed it.
      }
    }
  }
}

/** Writes lines to stderr and into a directory, for `setUpLogging`. */
export function writeBoth(directory: LogDirectory): (line: string) => void {
  return (line) => {
    writeToStderr(line);
    directory.write(line);
  };
}

function inodeOf(path: string): number | null {
  try {
    return Deno.statSync(path).ino;
  } catch {
    return null;
  }
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}
