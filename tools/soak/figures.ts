/**
 * Figures of a soak with the bounds that they must keep, told as they come.
 * @module
 */

/** A figure, and whether it is as it should be. */
export interface Figure {
  /** What was measured. */
  readonly name: string;
  /** The value. */
  readonly value: number;
  /** Of the value. */
  readonly unit: string;
  /** The most that it may be; none: told for information alone. */
  readonly atMost?: number;
}

/** Collects figures. */
export class Figures {
  readonly #all: Figure[] = [];
  readonly #isQuiet: boolean;

  /** None yet. @param isQuiet keeps them until {@link toJson} */
  constructor(isQuiet: boolean) {
    this.#isQuiet = isQuiet;
  }

  /** Takes a figure and tells it. */
  add(name: string, value: number, unit: string, atMost?: number): void {
    const figure = { name, value, unit, ...(atMost !== undefined && { atMost }) };
    this.#all.push(figure);
    if (this.#isQuiet) return;
    const bound = atMost === undefined ? "" : ` (at most ${format(atMost)})`;
    const verdict = atMost === undefined ? "      " : isMet(figure) ? "met   " : "missed";
    console.log(`${verdict}  ${name}: ${format(value)} ${unit}${bound}`);
  }

  /** Whether all bounds are kept. */
  get isGood(): boolean {
    return this.#all.every(isMet);
  }

  /** All of them. */
  get all(): readonly Figure[] {
    return this.#all;
  }
}

function isMet({ value, atMost }: Figure): boolean {
  return atMost === undefined || value <= atMost;
}

function format(value: number): string {
  return value === 0 || Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
