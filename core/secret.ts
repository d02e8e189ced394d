/**
 * Text that must not reach a log, an error message or a crash report.
 * @module
 */

const HIDDEN = "[secret]";

/** Wraps a token, password or key so that printing the wrapper by any means shows `[secret]`. */
export class Secret {
  readonly #text: string;

  /** Wraps a text as it is.
   * @param text the secret; whoever passes it should keep no other copy */
  constructor(text: string) {
    this.#text = text;
  }

  /** The secret itself, for the one place that puts it on the wire. */
  reveal(): string {
    return this.#text;
  }

  /** `[secret]`, so that template strings hide it. */
  toString(): string {
    return HIDDEN;
  }

  /** `[secret]`, so that JSON hides it. */
  toJSON(): string {
    return HIDDEN;
  }

  /** `[secret]`, so that `console.log` hides it. */
  [Symbol.for("Deno.customInspect")](): string {
    return HIDDEN;
  }

  /** `[secret]`, so that `node:util`'s inspect hides it. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return HIDDEN;
  }
}
