/**
 * Shows steps as they go: a live checklist on a terminal, plain lines elsewhere, or JSON.
 * @module
 */

/** How steps are shown. */
export type Style = "terminal" | "plain" | "json";

/** What a step found out. */
export interface Findings {
  /** For people: name and value, shown beside the step. */
  readonly shown: Readonly<Record<string, string>>;
  /** For programs: members of the step's JSON object. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** A step could not be done. */
export class StepError extends Error {
  /** Its class. */
  override readonly name = "StepError";

  /** Names the step and keeps what went wrong. */
  constructor(
    /** The step's title. */
    readonly step: string,
    override readonly cause: unknown,
  ) {
    super(cause instanceof Error ? cause.message : String(cause));
  }
}

const SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";
const SPINNER_MS = 80;
const TITLE_WIDTH = 58;

/** See the head of this file. */
export class Checklist {
  readonly #style: Style;
  readonly #write: (text: string) => void;
  #isSilent = false;

  /** @param write takes the text; by default it goes to stdout */
  constructor(style: Style, write: (text: string) => void = writeStdout) {
    this.#style = style;
    this.#write = (text) => {
      if (!this.#isSilent) write(text);
    };
  }

  /** Shows nothing from now on: how steps end is of no interest once all of it is given up. */
  silence(): void {
    this.#isSilent = true;
  }

  /** Begins a group of steps. */
  heading(text: string): void {
    if (this.#style === "json") return;
    this.#write(this.#style === "terminal" ? `\n\x1b[1m${text}\x1b[0m\n` : `\n${text}\n`);
  }

  /** A line between steps. */
  note(text: string): void {
    if (this.#style !== "json") this.#write(`      ${text}\n`);
  }

  /** A line of data, in JSON only. */
  data(value: unknown): void {
    if (this.#style === "json") this.#write(`${JSON.stringify(value)}\n`);
  }

  /** Text for people, at the left edge. */
  say(text: string): void {
    if (this.#style !== "json") this.#write(`${text}\n`);
  }

  /**
   * Does a step and shows how it went.
   *
   * @throws {@link StepError} with whatever the step threw
   */
  async step<T extends Findings | void>(title: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    const stopSpinner = this.#spin(title);
    try {
      const findings = await work();
      stopSpinner();
      this.#done(title, true, performance.now() - start, findings ?? { shown: {}, data: {} });
      return findings;
    } catch (error) {
      stopSpinner();
      const failure = new StepError(title, error);
      const told = { error: failure.message };
      this.#done(title, false, performance.now() - start, { shown: told, data: told });
      throw failure;
    }
  }

  #spin(title: string): () => void {
    if (this.#style !== "terminal") return () => {};
    let turn = 0;
    const draw = () => {
      const mark = SPINNER[turn++ % SPINNER.length];
      this.#write(`\r\x1b[2K  \x1b[36m${mark}\x1b[0m ${title}`);
    };
    draw();
    const timer = setInterval(draw, SPINNER_MS);
    return () => {
      clearInterval(timer);
      this.#write("\r\x1b[2K");
    };
  }

  #done(step: string, ok: boolean, ms: number, findings: Findings): void {
    if (this.#style === "json") {
      return this.data({ step, ok, ms: Math.round(ms), ...findings.data });
    }
    const colour = this.#style === "terminal";
    const mark = ok ? paint("✔", "32", colour) : paint("✘", "31", colour);
    const time = paint(duration(ms).padStart(8), "2", colour);
    this.#write(`  ${mark} ${step.padEnd(TITLE_WIDTH)} ${time}\n`);
    for (const [name, value] of Object.entries(findings.shown)) {
      this.note(`${paint(`${name}:`, "2", colour)} ${value}`);
    }
  }
}

/** `12 ms` or `1.2 s`. */
export function duration(ms: number): string {
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

/** `2.31 Gbit/s` or `310 Mbit/s`. */
export function rate(bytes: number, ms: number): string {
  const megabits = bytes * 8 / ms / 1_000;
  return megabits < 1_000
    ? `${megabits.toFixed(0)} Mbit/s`
    : `${(megabits / 1_000).toFixed(2)} Gbit/s`;
}

function paint(text: string, code: string, colour: boolean): string {
  return colour ? `\x1b[${code}m${text}\x1b[0m` : text;
}

function writeStdout(text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let from = 0; from < bytes.length;) from += Deno.stdout.writeSync(bytes.subarray(from));
  } catch (error) {
    // Whoever read it is gone; what has to be cleaned up still is.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
