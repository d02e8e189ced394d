/**
 * Which log lines are wanted: `info,portal=debug,gateway.peers=trace`.
 *
 * The form is that of Rust's `RUST_LOG`, so that variables from existing deployments still read. A
 * part names one or more consecutive components of a target, separated by dots or `::`; the longest
 * matching part decides, the later of equally long ones.
 * @module
 */

/** Severities, from the one that follows packets to the one that ends something. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** Severity of a line. */
export type LogLevel = typeof LOG_LEVELS[number];

/** Severity as a number that grows with it; `off` is above all. */
export type LogRank = number;

/** No line is as severe as this. */
export const RANK_OFF: LogRank = LOG_LEVELS.length;

/** Rank of a level, from 0 for trace. */
export function logRank(level: LogLevel): LogRank {
  return LOG_LEVELS.indexOf(level);
}

interface Directive {
  readonly path: readonly string[];
  readonly rank: LogRank;
}

/** A parsed filter; made by {@link parseLogFilter}. */
export class LogFilter {
  /** What it was parsed from; another thread can parse it again. */
  readonly text: string;
  readonly #directives: readonly Directive[];
  readonly #defaultRank: LogRank;

  /** Use {@link parseLogFilter}.
   * @param text as given
   * @param directives in order; those without a path set the default */
  constructor(text: string, directives: readonly Directive[]) {
    this.text = text;
    this.#directives = directives.filter((d) => d.path.length > 0);
    this.#defaultRank = directives.findLast((d) => d.path.length === 0)?.rank ?? logRank("error");
  }

  /** The least severe rank that is wanted from a target. */
  rankFor(target: readonly string[]): LogRank {
    let rank = this.#defaultRank;
    let length = 0;
    for (const d of this.#directives) {
      if (d.path.length >= length && holdsRun(target, d.path)) {
        rank = d.rank;
        length = d.path.length;
      }
    }
    return rank;
  }

  /** As it was given. */
  toString(): string {
    return this.text;
  }
}

/** Parses a filter; `undefined` if it makes no sense. The empty text wants errors alone. */
export function parseLogFilter(text: string): LogFilter | undefined {
  const directives: Directive[] = [];
  for (const part of text.split(",").map((p) => p.trim()).filter((p) => p !== "")) {
    const match = /^(?:([\w.:-]+)=)?([a-z]+)$/i.exec(part);
    if (match === null) return undefined;
    // A lone word that is no level is far more often a typo than a target.
    const rank = toRank(match[2]!);
    if (rank === undefined) return undefined;
    directives.push({ path: (match[1] ?? "").split(/::|\./).filter((c) => c !== ""), rank });
  }
  return new LogFilter(text, directives);
}

function toRank(word: string): LogRank | undefined {
  const lower = word.toLowerCase();
  if (lower === "off") return RANK_OFF;
  if (lower === "warning") return logRank("warn");
  const rank = (LOG_LEVELS as readonly string[]).indexOf(lower);
  return rank < 0 ? undefined : rank;
}

function holdsRun(target: readonly string[], path: readonly string[]): boolean {
  for (let start = 0; start + path.length <= target.length; start++) {
    if (path.every((component, i) => component === target[start + i])) return true;
  }
  return false;
}
