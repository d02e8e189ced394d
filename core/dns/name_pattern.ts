/**
 * Patterns of names, as the administrator writes them for DNS resources.
 *
 *     example.com       that name
 *     *.example.com     one label before it, or none
 *     **.example.com    any number of labels before it
 *     a?.*.example.com  `?` is one character, `*` inside a label any number of them
 *
 * Wildcards never cross a dot, but for `**`, which stands alone between dots. Upper and lower case
 * are the same. Names in other scripts are compared in the form that travels (`xn--…`).
 * @module
 */

import { domainToASCII } from "node:url";

/** A pattern that can be compared with names. */
export class NamePattern {
  /** As it was written, in lower case and without a final dot. */
  readonly text: string;
  readonly #labels: readonly string[];

  private constructor(text: string, labels: readonly string[]) {
    this.text = text;
    this.#labels = labels;
  }

  /** Reads a pattern; undefined when it has empty labels or `**` next to other characters. */
  static parse(text: string): NamePattern | undefined {
    const plain = text.trim().replace(/\.$/, "").toLowerCase();
    const labels: string[] = [];
    for (const label of plain.split(".")) {
      if (label === "" || label.length > 255) return undefined;
      if (label !== "**" && label.includes("**")) return undefined;
      const ascii = toAscii(label);
      if (ascii === undefined) return undefined;
      labels.push(ascii);
    }
    return new NamePattern(labels.join("."), labels);
  }

  /** Whether it has no wildcards, so that it matches its own text alone. */
  get isLiteral(): boolean {
    return !/[*?]/.test(this.text);
  }

  /** What all names that match end with: the labels behind the last wildcard; may be empty. */
  get suffix(): string {
    const last = this.#labels.findLastIndex((label) => /[*?]/.test(label));
    return this.#labels.slice(last + 1).join(".");
  }

  /** Whether a name matches.
   * @param name in lower case, without a final dot */
  matches(name: string): boolean {
    return this.matchesLabels(name.split("."));
  }

  /** Same as {@link matches} for a name that is split already. */
  matchesLabels(name: readonly string[]): boolean {
    const labels = this.#labels;
    if (matchLabels(labels, 0, name)) return true;
    return labels.length > 1 && labels[0] === "*" && matchLabels(labels, 1, name);
  }

  /**
   * Orders patterns, the more specific first: compared from the right, a literal character comes
   * before `?`, that before `*`, and what ends earlier before what goes on. Patterns of one text are
   * equal.
   */
  compareTo(other: NamePattern): number {
    const [a, b] = [this.text, other.text];
    for (let i = 1; i <= a.length && i <= b.length; i++) {
      const [x, y] = [a[a.length - i]!, b[b.length - i]!];
      if (x === y) continue;
      const difference = rank(x) - rank(y);
      return difference !== 0 ? difference : x < y ? -1 : 1;
    }
    return a.length - b.length;
  }
}

/** Many patterns, each with what it stands for. */
export class PatternTable<T> {
  /** Literal patterns by text; the others in order. */
  readonly #literals = new Map<string, PatternMatch<T>[]>();
  readonly #wildcards: PatternMatch<T>[] = [];

  /** A table of patterns with their values. */
  constructor(entries: Iterable<readonly [NamePattern, T]>) {
    for (const [pattern, value] of entries) {
      const entry = { pattern, value };
      if (!pattern.isLiteral) this.#wildcards.push(entry);
      else {
        const same = this.#literals.get(pattern.text);
        if (same) same.push(entry);
        else this.#literals.set(pattern.text, [entry]);
      }
    }
    this.#wildcards.sort((a, b) => a.pattern.compareTo(b.pattern));
  }

  /**
   * All entries that match a name, the most specific first; those of one text in the order in which
   * they were added.
   *
   * @param name in lower case, without a final dot
   */
  matching(name: string): readonly PatternMatch<T>[] {
    const literal = this.#literals.get(name);
    const labels = name.split(".");
    const found = this.#wildcards.filter((entry) => entry.pattern.matchesLabels(labels));
    if (!literal) return found;
    if (found.length === 0) return literal;
    return [...literal, ...found].sort((a, b) => a.pattern.compareTo(b.pattern));
  }
}

/** A pattern and what it stands for. */
export interface PatternMatch<T> {
  /** The pattern. */
  readonly pattern: NamePattern;
  /** What it stands for. */
  readonly value: T;
}

function rank(character: string): number {
  return character === "?" ? 1 : character === "*" ? 2 : 0;
}

/**
 * Whether `pattern[first..]` matches a name. After a mismatch the latest `**` takes one label more;
 * earlier ones need not be looked at again, so the time is the product of the lengths at most.
 */
function matchLabels(pattern: readonly string[], first: number, name: readonly string[]): boolean {
  let p = first;
  let n = 0;
  let retryPattern = -1;
  let retryName = 0;
  while (n < name.length) {
    if (p < pattern.length && pattern[p] === "**") {
      retryPattern = ++p;
      retryName = n;
    } else if (p < pattern.length && matchLabel(pattern[p]!, name[n]!)) {
      p++;
      n++;
    } else if (retryPattern >= 0) {
      p = retryPattern;
      n = ++retryName;
    } else return false;
  }
  while (p < pattern.length && pattern[p] === "**") p++;
  return p === pattern.length;
}

/** The same within one label, `*` for any number of characters. */
function matchLabel(pattern: string, label: string): boolean {
  if (pattern === "*" || pattern === label) return true;
  let p = 0;
  let n = 0;
  let retryPattern = -1;
  let retryLabel = 0;
  while (n < label.length) {
    const character = pattern[p];
    if (character === "*") {
      retryPattern = ++p;
      retryLabel = n;
    } else if (character === "?" || character !== undefined && character === label[n]) {
      p++;
      n++;
    } else if (retryPattern >= 0) {
      p = retryPattern;
      n = ++retryLabel;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** The form of a label that travels; labels with wildcards have to be written in it. */
function toAscii(label: string): string | undefined {
  if (/^[\x21-\x7e]+$/.test(label)) return label;
  const ascii = /[*?]/.test(label) ? "" : domainToASCII(label);
  return ascii === "" ? undefined : ascii;
}
