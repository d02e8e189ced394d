/**
 * The configuration file on disk: read at start, looked at again and again while the portal runs.
 *
 * Looking is done by `stat`, which works the same for editors that write in place, editors that
 * replace, symbolic links that are swapped, and network file systems.
 * @module
 */

import { ConfigError } from "@firezone/core/cli";
import { parseConfig, type ParsedConfig } from "./config/mod.ts";

/** The names that are tried when none is given. */
export const DEFAULT_CONFIG_PATHS = ["portal.jsonc", "portal.json"] as const;

/** Longer files are no configuration. */
const MAX_BYTES = 16 * 1024 * 1024;

/** The path that was given, or the first default that is there. */
export function findConfigPath(given: string | undefined): string {
  if (given !== undefined) return given;
  for (const path of DEFAULT_CONFIG_PATHS) {
    try {
      Deno.statSync(path);
      return path;
    } catch {
      // The next one, then.
    }
  }
  const names = DEFAULT_CONFIG_PATHS.join(" or ");
  throw new ConfigError(
    `Cannot find ${names} here: write one with "firezone-portal init", or name one with --config`,
  );
}

/** Reads the file. @throws {@link ConfigError} when that is not possible */
export function readConfigText(path: string): string {
  try {
    const { isFile, size } = Deno.statSync(path);
    // To read a pipe waits for whoever writes to it.
    if (!isFile) throw new Error("it is not a file");
    if (size > MAX_BYTES) throw new Error("it is larger than 16 MiB");
    return Deno.readTextFileSync(path);
  } catch (error) {
    // The system's words without the call and the path behind them, which is named already.
    const reason = error instanceof Error ? error.message.replace(/: \w+ '.*'$/, "") : `${error}`;
    throw new ConfigError(`Cannot read configuration ${path}: ${reason}`);
  }
}

/** What a watcher reports. */
export type ConfigChange =
  | { readonly tag: "changed"; readonly parsed: ParsedConfig }
  | { readonly tag: "unreadable"; readonly reason: string };

/** Looks at a file until it is disposed of. */
export class ConfigWatcher implements Disposable {
  readonly #path: string;
  readonly #onChange: (change: ConfigChange) => void;
  readonly #timer: ReturnType<typeof setInterval>;
  /** The text that was reported last. */
  #text: string | undefined;
  /** What the file looked like at the last look. */
  #seen = "";
  /** What it looked like when its text was read. */
  #read = "";

  /** Begins to look.
   * @param text what the file held when it was read last
   * @param onChange hears of every other text, and when the file cannot be read any more
   * @param intervalMs how often it looks; a change is reported at the second look, when it rests */
  constructor(
    path: string,
    text: string,
    onChange: (change: ConfigChange) => void,
    intervalMs = 400,
  ) {
    this.#path = path;
    this.#onChange = onChange;
    this.#text = text;
    this.#timer = setInterval(() => this.#look(), intervalMs);
  }

  /** Reads the file at once, changed or not. */
  reload(): void {
    this.#text = undefined;
    this.#report();
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const current = fingerprint(this.#path);
    const rests = current === this.#seen;
    this.#seen = current;
    if (rests && current !== this.#read) this.#report();
  }

  #report(): void {
    this.#read = fingerprint(this.#path);
    let text: string;
    try {
      text = readConfigText(this.#path);
    } catch (error) {
      return this.#onChange({ tag: "unreadable", reason: (error as Error).message });
    }
    if (text === this.#text) return;
    this.#text = text;
    this.#onChange({ tag: "changed", parsed: parseConfig(text) });
  }
}

function fingerprint(path: string): string {
  try {
    const { ino, dev, size, mtime } = Deno.statSync(path);
    return `${dev} ${ino} ${size} ${mtime?.getTime()}`;
  } catch {
    return "absent";
  }
}
