/**
 * What is wrong in a configuration file, and where.
 * @module
 */

/** One mistake; lines and columns count from 1, columns in UTF-16 units. */
export interface Mistake {
  /** Line in the file. */
  readonly line: number;
  /** Column in the line. */
  readonly column: number;
  /** Where in the document, such as `resources[1].address`; empty for the document itself. */
  readonly path: string;
  /** What was expected and what stands there. Never holds a token. */
  readonly message: string;
}

/** One line for the operator: `portal.jsonc:12:7: resources[1].address: …`. */
export function formatMistake(file: string, mistake: Mistake): string {
  const path = mistake.path === "" ? "" : `${mistake.path}: `;
  return `${file}:${mistake.line}:${mistake.column}: ${path}${mistake.message}`;
}

/** The candidate that `word` is most likely a misspelling of, if any comes close. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  // A swap of two letters counts as two.
  let bestDistance = (word.length < 4 ? 1 : Math.max(2, Math.floor(word.length / 3))) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Levenshtein's distance, by the row. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, substitution));
    }
    row = next;
  }
  return row[b.length]!;
}
