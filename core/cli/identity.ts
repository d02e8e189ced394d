/**
 * Who this machine is: ids that survive restarts, and a name for people.
 * @module
 */

import { randomBytes, randomUUID } from "node:crypto";
import { dirname } from "node:path";
import { ConfigError } from "./errors.ts";

/** How an id is kept in a file. */
export interface IdFile {
  /** Where. */
  readonly path: string;
  /** The id in a file's text, or `undefined` if the text holds none. */
  parse(text: string): string | undefined;
  /** The text of a file for an id. */
  format(id: string): string;
}

/**
 * The id that a file holds; if there is no file yet, one is made with a fresh random UUID.
 *
 * Two programs that start at once end with the same id, and a crash leaves either no file or a
 * whole one.
 *
 * @param hint completes error messages: what to do instead
 * @throws {@link ConfigError} if the file cannot be read or made, or holds no id
 */
export function loadOrCreateId(file: IdFile, hint: string): string {
  const found = readId(file, hint);
  if (found !== undefined) return found;
  const temporary = `${file.path}.${randomBytes(6).toString("hex")}`;
  try {
    Deno.mkdirSync(dirname(file.path), { recursive: true, mode: 0o770 });
    writeDurably(temporary, file.format(randomUUID()));
    publish(temporary, file.path);
  } catch (error) {
    throw new ConfigError(`Cannot save an id in ${file.path} (${hint})`, { cause: error });
  }
  return readId(file, hint) ?? unreadable(file, hint);
}

/** An id as an operator gives it. @throws {@link ConfigError} if it cannot be one */
export function checkGivenId(id: string): string {
  const bare = id.trim();
  if (bare !== "" && bare.length <= 256 && /^[\x21-\x7e]+$/.test(bare)) return bare;
  throw new ConfigError(
    `Cannot use ${JSON.stringify(id)} as Firezone id: expected up to 256 printable characters`,
  );
}

/** The name under which administrators see this machine unless they give another. */
export function defaultName(): string {
  try {
    return Deno.hostname() || randomUUID();
  } catch {
    return randomUUID();
  }
}

function readId(file: IdFile, hint: string): string | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(file.path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new ConfigError(`Cannot read the id in ${file.path} (${hint})`, { cause: error });
  }
  return file.parse(text) ?? unreadable(file, hint);
}

function unreadable(file: IdFile, hint: string): never {
  throw new ConfigError(`Cannot find an id in ${file.path}: repair or remove the file, or ${hint}`);
}

/** Gives a finished file its name, unless that name is taken: then the other file stays. */
function publish(temporary: string, path: string): void {
  try {
    Deno.linkSync(temporary, path);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return;
    // A file system without hard links; here the last of two racing programs wins.
    Deno.renameSync(temporary, path);
  } finally {
    removeIfThere(temporary);
  }
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function writeDurably(path: string, text: string): void {
  using file = Deno.openSync(path, { write: true, createNew: true, mode: 0o640 });
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
  file.syncSync();
}
