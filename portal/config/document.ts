/**
 * A JSON document with comments that remembers where each value stands.
 *
 * Comments and trailing commas are allowed in `.json` files too. A key that occurs twice in one
 * object is a mistake, where `JSON.parse` would silently take the last.
 * @module
 */

import {
  createScanner,
  findNodeAtLocation,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";
import type { Mistake } from "./mistake.ts";

/** A configuration needs four; the parser calls itself for each, and would run out of stack. */
const MAX_DEPTH = 100;

/** Of the parser's `SyntaxKind`, an ambient enum, which cannot be imported. */
const TOKEN = { openBrace: 1, closeBrace: 2, openBracket: 3, closeBracket: 4, end: 17 };

/** Keys and indexes from the root to a value. */
export type Path = readonly (string | number)[];

/** A parsed file: its value, and the places of everything in it. */
export class ConfigDocument {
  /** Syntax errors and repeated keys. */
  readonly mistakes: readonly Mistake[];
  /** The document as plain data; `undefined` when the syntax is broken. */
  readonly value: unknown;
  readonly #root: Node | undefined;
  readonly #lineStarts: readonly number[];

  /** Parses a file's text; never throws.
   * @param text the file, with or without a byte order mark */
  constructor(text: string) {
    this.#lineStarts = [0, ...Array.from(text.matchAll(/\n/g), (match) => match.index + 1)];
    const deep = tooDeepAt(text);
    if (deep !== undefined) {
      this.mistakes = [this.#mistake(deep, "", `nested deeper than ${MAX_DEPTH} levels`)];
      return;
    }
    const errors: ParseError[] = [];
    const options = { allowTrailingComma: true, disallowComments: false };
    // A blank instead of the byte order mark keeps every offset as it is.
    this.#root = parseTree(text.replace(/^\uFEFF/, " "), errors, options);
    // One error tends to be reported twice where it stands.
    const firsts = errors.filter((error, i) => error.offset !== errors[i - 1]?.offset);
    const mistakes = firsts.map((error) =>
      this.#mistake(error.offset, "", syntaxMessage(printParseErrorCode(error.error)))
    );
    if (errors.length === 0 && this.#root) {
      this.value = this.#toValue(this.#root, [], mistakes);
    }
    this.mistakes = mistakes;
  }

  /** A mistake in the value at `path`, or in the closest thing around it that exists. */
  mistakeAt(path: Path, message: string): Mistake {
    let node: Node | undefined;
    for (let length = path.length; node === undefined && length >= 0; length--) {
      node = this.#root && findNodeAtLocation(this.#root, path.slice(0, length));
    }
    return this.#mistake(node?.offset ?? 0, pathText(path), message);
  }

  /** A mistake in the key that ends `path`, not in its value. */
  mistakeAtKey(path: Path, message: string): Mistake {
    const value = this.#root && findNodeAtLocation(this.#root, [...path]);
    const key = value?.parent?.children?.[0];
    return key ? this.#mistake(key.offset, pathText(path), message) : this.mistakeAt(path, message);
  }

  #mistake(offset: number, path: string, message: string): Mistake {
    let low = 0;
    let high = this.#lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#lineStarts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - this.#lineStarts[low]! + 1, path, message };
  }

  #toValue(node: Node, path: Path, mistakes: Mistake[]): unknown {
    if (node.type === "array") {
      return (node.children ?? []).map((child, i) => this.#toValue(child, [...path, i], mistakes));
    }
    if (node.type !== "object") return node.value;
    const entries = new Map<string, unknown>();
    for (const property of node.children ?? []) {
      const [key, value] = property.children ?? [];
      if (!key || !value) continue;
      const inner = [...path, key.value as string];
      if (entries.has(key.value)) {
        mistakes.push(this.#mistake(key.offset, pathText(inner), "this key occurs twice"));
      }
      if (key.value in Object.prototype) {
        // Nobody who looks at the value would see it among the keys.
        mistakes.push(this.#mistake(key.offset, pathText(inner), "there is no such key"));
      } else entries.set(key.value, this.#toValue(value, inner, mistakes));
    }
    return Object.fromEntries(entries);
  }
}

function pathText(path: Path): string {
  return path.map((key) => typeof key === "number" ? `[${key}]` : `.${key}`).join("")
    .replace(/^\./, "");
}

/** `CommaExpected` as `a comma was expected here`. */
function syntaxMessage(code: string): string {
  const words = code.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  const expected = / expected$/.exec(words);
  return expected
    ? `not valid JSON: expected a ${words.slice(0, expected.index)} here`
    : `not valid JSON: ${words}`;
}

/** Where the text is nested too deeply, if it is. */
function tooDeepAt(text: string): number | undefined {
  const scanner = createScanner(text, true);
  let depth = 0;
  for (let token: number = scanner.scan(); token !== TOKEN.end; token = scanner.scan()) {
    if (token === TOKEN.openBrace || token === TOKEN.openBracket) depth++;
    if (token === TOKEN.closeBrace || token === TOKEN.closeBracket) depth--;
    if (depth > MAX_DEPTH) return scanner.getTokenOffset();
  }
  return undefined;
}
