/**
 * The process's environment, with care for what is secret in it.
 * @module
 */

import { Secret } from "../secret.ts";

/** A variable's value; an empty one counts as not set. */
export function readEnv(name: string): string | undefined {
  const value = Deno.env.get(name);
  return value === undefined || value === "" ? undefined : value;
}

/**
 * Reads a secret and removes it from the environment at once, so that no child process inherits it.
 *
 * White space anywhere in it is dropped: tokens hold none, and pasted ones often end in a newline.
 */
export function takeSecretEnv(name: string): Secret | undefined {
  const value = Deno.env.get(name);
  if (value === undefined) return undefined;
  Deno.env.delete(name);
  return toSecret(value);
}

/** The text as a secret without any white space, or `undefined` if nothing is left. */
export function toSecret(text: string): Secret | undefined {
  const bare = text.replace(/\s+/g, "");
  return bare === "" ? undefined : new Secret(bare);
}
