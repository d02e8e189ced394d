/**
 * The sessions of one tunnel while one takes over from another.
 *
 *     current    seals and opens
 *     previous   opens what was under way when current took over
 *     next       made by answering the peer's handshake; the peer must use it first, because only
 *                that shows that it got our answer (paper §5.4.5); opens, does not seal yet
 *
 * Owns: which session is which, and their end of life. Does not own: their indices' registration;
 * what is put out of use is handed to `release`.
 * @module
 */

import { earlier, type Millis, NEVER } from "../units.ts";
import type { Session } from "./session.ts";

/** Up to three sessions. */
export class SessionSlots {
  readonly #release: (session: Session) => void;
  #current: Session | undefined;
  #previous: Session | undefined;
  #next: Session | undefined;

  /** No sessions.
   * @param release called with each session that is out of use, for it to be disposed */
  constructor(release: (session: Session) => void) {
    this.#release = release;
  }

  /** The session that seals. */
  get current(): Session | undefined {
    return this.#current;
  }

  /** See {@link Session.rxLost}, of all sessions together. */
  get rxLost(): number {
    return (this.#current?.rxLost ?? 0) + (this.#previous?.rxLost ?? 0) +
      (this.#next?.rxLost ?? 0);
  }

  /** The session that has the index `localIndex`. */
  find(localIndex: number): Session | undefined {
    if (this.#current?.localIndex === localIndex) return this.#current;
    if (this.#next?.localIndex === localIndex) return this.#next;
    if (this.#previous?.localIndex === localIndex) return this.#previous;
    return undefined;
  }

  /** Takes the session of a handshake that the peer answered: used from now on. */
  addInitiated(session: Session): void {
    // A session that awaits confirmation may be in use by the peer already: it is the newer one.
    if (this.#next !== undefined) {
      this.#drop(this.#current);
      this.#current = this.#next;
      this.#next = undefined;
    }
    this.#promote(session);
  }

  /** Takes the session of a handshake that we answered: used once the peer did. */
  addAnswered(session: Session): void {
    this.#drop(this.#next);
    this.#next = session;
  }

  /** The peer has used `session`; true when that makes it the current one. */
  confirm(session: Session): boolean {
    if (session !== this.#next) return false;
    this.#next = undefined;
    this.#promote(session);
    return true;
  }

  /** When the next of them reaches its end of life. */
  get expiresAt(): Millis {
    let at = this.#current?.rejectAt ?? NEVER;
    at = earlier(at, this.#previous?.rejectAt ?? NEVER);
    return earlier(at, this.#next?.rejectAt ?? NEVER);
  }

  /** Puts those out of use that reached their end of life. */
  expire(now: Millis): void {
    if (this.#current !== undefined && now >= this.#current.rejectAt) {
      this.#drop(this.#current);
      this.#current = undefined;
    }
    if (this.#previous !== undefined && now >= this.#previous.rejectAt) {
      this.#drop(this.#previous);
      this.#previous = undefined;
    }
    if (this.#next !== undefined && now >= this.#next.rejectAt) {
      this.#drop(this.#next);
      this.#next = undefined;
    }
  }

  /** Puts all out of use. */
  clear(): void {
    this.expire(NEVER);
  }

  #promote(session: Session): void {
    this.#drop(this.#previous);
    this.#previous = this.#current;
    this.#current = session;
  }

  #drop(session: Session | undefined): void {
    if (session !== undefined) this.#release(session);
  }
}
