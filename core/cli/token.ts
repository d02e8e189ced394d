/**
 * Tokens, by which this machine proves who it is: from files, from the service manager, from files
 * that variables name.
 *
 * A file holds one token on one line; white space and empty lines around it do not matter. Where a
 * file holds more, nobody can tell which of it is meant, so it is refused.
 * @module
 */

import type { Secret } from "../secret.ts";
import { readEnv, takeSecretEnv, toToken } from "./env.ts";
import { ConfigError } from "./errors.ts";

/** Longer texts name no file that holds a token. */
const MAX_PATH_LENGTH = 1023;

/** Modes of a file that only its owner may read. */
const TOKEN_MODES = "0600 or 0400";

/** More than any header that could carry it. */
const MAX_TOKEN_BYTES = 64 * 1024;

/**
 * Reads a token from a file, or answers `undefined` if there is no such file or nothing in it.
 *
 * Whoever can read the file can be this machine, so except on Windows it must belong to root or to
 * the user that runs this program, and be closed to everyone else.
 *
 * @throws {@link ConfigError} if it cannot be read, or could be read by others
 */
export function readTokenFile(path: string): Secret | undefined {
  return readSecretFile(path, (info) => {
    if (Deno.build.os !== "windows") checkTokenFile(path, info);
  });
}

/**
 * Reads a credential that the service manager passes, or answers `undefined` if there is none.
 *
 * Who may read it is the service manager's affair: systemd grants it by access lists, which look
 * like group permissions.
 *
 * @throws {@link ConfigError} if it cannot be read
 */
export function readCredential(name: string): Secret | undefined {
  const directory = readEnv("CREDENTIALS_DIRECTORY");
  return directory === undefined ? undefined : readSecretFile(`${directory}/${name}`, () => {});
}

/**
 * A secret from a variable, which is removed from the environment. A value that is the path of a
 * file stands for what the file holds.
 *
 * Who may read the file is the affair of whoever mounts it: containers get their secrets as files
 * of mode 0444.
 *
 * @throws {@link ConfigError} if the value can only be a path, and there is no secret to be read
 */
export function takeSecretEnvOrFile(name: string): Secret | undefined {
  const path = readEnv(name)?.trim() ?? "";
  const isPath = path.length <= MAX_PATH_LENGTH && (/^\.{0,2}\//.test(path) || isFile(path));
  if (!isPath) return takeSecretEnv(name);
  Deno.env.delete(name);
  const secret = readSecretFile(path, () => {});
  if (secret !== undefined) return secret;
  throw new ConfigError(`Cannot read ${path}, which ${name} names: there is no token in it`);
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

function notAFile(path: string): ConfigError {
  return new ConfigError(`Cannot read token file ${path}: it is not a file`);
}

function readSecretFile(path: string, check: (info: Deno.FileInfo) => void): Secret | undefined {
  try {
    // To open a pipe waits for whoever writes to it.
    if (!Deno.statSync(path).isFile) throw notAFile(path);
    // The checks are made on what is read, not on what a path means a moment earlier.
    using file = Deno.openSync(path, { read: true });
    const info = file.statSync();
    if (!info.isFile) throw notAFile(path);
    check(info);
    if (info.size > MAX_TOKEN_BYTES) {
      throw new ConfigError(
        `Cannot read token file ${path}: ${info.size} bytes are too many for a token`,
      );
    }
    return toToken(onlyLine(readAll(file, MAX_TOKEN_BYTES), path), path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`Cannot read token file ${path}`, { cause: error });
  }
}

/** The line that is not empty, or nothing. @throws ConfigError if there are several */
function onlyLine(text: string, path: string): string {
  const lines = text.split(/[\r\n]+/).map((line) => line.trim()).filter((line) => line !== "");
  const [line = ""] = lines;
  if (lines.length > 1) {
    throw new ConfigError(
      `Cannot use the token in ${path}: a token is one line, but there are ${lines.length}`,
    );
  }
  if (/\s/.test(line)) {
    throw new ConfigError(`Cannot use the token in ${path}: it has white space in its middle`);
  }
  return line;
}

function checkTokenFile(path: string, info: Deno.FileInfo): void {
  if (info.uid !== 0 && info.uid !== Deno.uid()) {
    throw new ConfigError(
      `Token file ${path} should be owned by the root user, but its owner has uid ${info.uid}`,
    );
  }
  const mode = (info.mode ?? 0) & 0o777;
  if ((mode & 0o177) !== 0) {
    const text = mode.toString(8).padStart(4, "0");
    throw new ConfigError(`Token file ${path} should have mode ${TOKEN_MODES}, but it has ${text}`);
  }
}

function readAll(file: Deno.FsFile, limit: number): string {
  const bytes = new Uint8Array(limit);
  let length = 0;
  while (length < limit) {
    const n = file.readSync(bytes.subarray(length));
    if (n === null) break;
    length += n;
  }
  return new TextDecoder().decode(bytes.subarray(0, length));
}
