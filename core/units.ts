/**
 * The small types that every room shares: branded numbers that cannot be mixed up.
 *
 * Time inside the state machines is monotonic and comes in as an argument; wall-clock time (for
 * expiry of credentials and authorisations) is another type.
 * @module
 */

/** `T` with a name the compiler checks; costs nothing at run time. */
export type Brand<T, Name extends string> = T & { readonly "~brand": Name };

/** Monotonic milliseconds; only differences mean anything. */
export type Millis = Brand<number, "Millis">;

/** Wall-clock time in whole seconds since 1970 (UTC), as the portal's messages carry it. */
export type UnixSeconds = Brand<number, "UnixSeconds">;

/** The deadline that does not come; a number, so that deadline fields keep one representation. */
export const NEVER: Millis = Infinity as Millis;

/** The instant `delayMs` milliseconds after `now`. */
export function after(now: Millis, delayMs: number): Millis {
  return (now + delayMs) as Millis;
}

/** The earlier of two deadlines. */
export function earlier(a: Millis, b: Millis): Millis {
  return a < b ? a : b;
}

/** UDP port in host order, 1 to 65535; zero means "any" and is never a `Port`. */
export type Port = Brand<number, "Port">;

/** The only door from a number to a {@link Port}. */
export function toPort(n: number): Port | undefined {
  return Number.isInteger(n) && n >= 1 && n <= 65535 ? (n as Port) : undefined;
}

/** Marks a branch that no input may reach; throwing here means a bug of ours. */
export function unreachable(value: never): never {
  throw new Error(`Unreachable state: ${JSON.stringify(value)}`);
}
