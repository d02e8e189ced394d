/**
 * The values beside a log message: made plain, cut short and freed of secrets.
 * @module
 */

const REDACTED = "[redacted]";
const MAX_DEPTH = 4;
const MAX_ITEMS = 50;
const MAX_TEXT = 2000;

/** Field names (without case and separators) whose values never appear, by how they end. */
const SECRET_NAMES =
  /(token|password|passwd|psk|secret|privatekey|presharedkey|authorization|credential)s?$/;

/** Values that JSON can hold. */
export type Plain = string | number | boolean | null | readonly Plain[] | {
  readonly [key: string]: Plain;
};

/** The fields of a log line as plain values, secrets replaced. Never throws. */
export function plainFields(fields: Readonly<Record<string, unknown>>): Record<string, Plain> {
  const plain: Record<string, Plain> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) plain[name] = plainField(name, value, 0);
  }
  return plain;
}

/** Whether a field of this name is hidden whatever it holds. */
export function isSecretName(name: string): boolean {
  return SECRET_NAMES.test(name.replace(/[^A-Za-z]/g, "").toLowerCase());
}

function plainField(name: string, value: unknown, depth: number): Plain {
  return isSecretName(name) && value !== null ? REDACTED : plainValue(value, depth);
}

function plainValue(value: unknown, depth: number): Plain {
  switch (typeof value) {
    case "string":
      return value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT)}…` : value;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "boolean":
      return value;
    case "object":
      return value === null ? null : plainObject(value, depth);
    case "undefined":
      return null;
    default:
      return String(value);
  }
}

function plainObject(value: object, depth: number): Plain {
  try {
    if (value instanceof Error) return errorText(value);
    if (ArrayBuffer.isView(value)) return `${value.byteLength} bytes`;
    if (depth >= MAX_DEPTH) return "…";
    if (Array.isArray(value)) {
      return value.slice(0, MAX_ITEMS).map((item) => plainValue(item, depth + 1));
    }
    // Addresses, secrets and the like say themselves how they want to be written.
    if (value.toString !== Object.prototype.toString) return String(value);
    const plain: Record<string, Plain> = {};
    for (const [name, item] of Object.entries(value).slice(0, MAX_ITEMS)) {
      plain[name] = plainField(name, item, depth + 1);
    }
    return plain;
  } catch {
    return "[unprintable]";
  }
}

/** `message: cause: …`. */
function errorText(error: Error): string {
  let text = error.message || error.name;
  let cause = error.cause;
  for (let depth = 0; depth < MAX_DEPTH && cause instanceof Error; depth++) {
    if (!text.includes(cause.message)) text += `: ${cause.message}`;
    cause = cause.cause;
  }
  return text;
}
