/**
 * The process's environment, with care for what is secret in it.
 * @module
 */

import { Secret } from "../secret.ts";
import { ConfigError } from "./errors.ts";

/** A variable's value; an empty one counts as not set. */
export function readEnv(name: string): string | undefined {
  const value = Deno.env.get(name);
  return value === undefined || value === "" ? undefined : value;
}

/**
 * Reads a secret and removes it from the environment at once, so that no child process inherits it.
 *
 * White space anywhere in it is dropped: tokens hold none, and pasted ones often end in a newline.
 *
 * @throws ConfigError for what cannot be a token
 */
export function takeSecretEnv(name: string): Secret | undefined {
  const value = Deno.env.get(name);
  if (value === undefined) return undefined;
  Deno.env.delete(name);
  return toToken(value, `$${name}`);
}

/**
 * The text as a token, or `undefined` if there is nothing but white space.
 *
 * @param where completes "the token in …"
 * @throws ConfigError for what no HTTP header can carry, such as a file that is no text
 */
export function toToken(text: string, where: string): Secret | undefined {
  const token = toSecret(text);
  if (token === undefined || /^[\x21-\x7e]+$/.test(token.reveal())) return token;
  throw new ConfigError(
    `Cannot use the token in ${where}: it holds other characters than letters, digits and signs`,
  );
}

/** The text as a secret without any white space, or `undefined` if nothing is left. */
export function toSecret(text: string): Secret | undefined {
  const bare = text.replace(/\s+/g, "");
  return bare === "" ? undefined : new Secret(bare);
}
