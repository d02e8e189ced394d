/**
 * Asks for a secret at the terminal, which does not show what is typed or pasted.
 * @module
 */

const ENTER = new Set([0x0a, 0x0d]);
const INTERRUPT = 0x03;
const END_OF_INPUT = 0x04;
const ERASE = new Set([0x08, 0x7f]);
const MAX_LENGTH = 64 * 1024;

/** The part of standard input that is used; for tests. */
export interface Input {
  /** Whether somebody types. */
  readonly isTerminal: () => boolean;
  /** Switches echo and line editing off or on. */
  readonly setRaw: (raw: boolean) => void;
  /** Blocks until there is something; null at the end. */
  readonly readSync: (buffer: Uint8Array) => number | null;
}

/**
 * Shows a question on stderr, if somebody types, and returns the line that follows.
 *
 * From a pipe a line is read as well, so that a token can come from elsewhere than a keyboard.
 *
 * @returns undefined at the end of input, or when it was interrupted
 */
export function readSecretLine(
  question: string,
  input: Input = Deno.stdin,
  show: (text: string) => void = showOnStderr,
): string | undefined {
  if (!input.isTerminal()) return readLine(input);
  show(question);
  input.setRaw(true);
  try {
    return readLine(input);
  } finally {
    input.setRaw(false);
    show("\n");
  }
}

function showOnStderr(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}

function readLine(input: Input): string | undefined {
  const bytes: number[] = [];
  const one = new Uint8Array(1);
  while (bytes.length < MAX_LENGTH) {
    if (input.readSync(one) === null) break;
    const byte = one[0]!;
    if (ENTER.has(byte)) return decode(bytes);
    if (byte === INTERRUPT) return undefined;
    if (byte === END_OF_INPUT) break;
    if (ERASE.has(byte)) bytes.pop();
    else bytes.push(byte);
  }
  return bytes.length > 0 ? decode(bytes) : undefined;
}

function decode(bytes: readonly number[]): string {
  return new TextDecoder().decode(Uint8Array.from(bytes));
}
