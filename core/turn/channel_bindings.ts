/**
 * The channels of one allocation, as the client knows them: which number stands for which peer.
 *
 *     requested ── confirmed ──► bound ── 10 min without a refresh ──► expired ── 5 min ──► gone
 *         └───── refused ──► gone  ▲                                      │
 *                                  └───────── bound again to its peer ◄───┘
 *
 * A number stays tied to its peer for 5 min after it expired, since datagrams may still be under
 * way (RFC 8656 §12). Numbers never used are taken first, so that a relay whose clock runs behind
 * ours sees no conflict.
 *
 * Owns: numbers and their timers. Does not own: the CHANNEL_BIND requests, see `allocation.ts`.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";
import {
  type ChannelNumber,
  FIRST_CHANNEL,
  LAST_CHANNEL,
  toChannelNumber,
} from "./channel_data.ts";

/** How long a binding lasts after the relay confirmed it (RFC 8656 §12). */
export const CHANNEL_LIFETIME_MS = 600_000;
/** A binding of this age is refreshed, if data came through it since it was confirmed. */
export const CHANNEL_REFRESH_MS = 300_000;
/** How long an expired number can be bound to nothing but its last peer. */
export const CHANNEL_COOLDOWN_MS = 300_000;

interface Binding {
  readonly number: ChannelNumber;
  readonly peer: SocketAddress;
  state: "requested" | "bound" | "expired";
  /** A CHANNEL_BIND is under way. */
  inFlight: boolean;
  confirmedAt: Millis;
  receivedSinceConfirmed: boolean;
}

/** A binding that the relay is to be asked for. */
export interface WantedBinding {
  /** The number to ask for. */
  readonly number: ChannelNumber;
  /** The peer it is to stand for. */
  readonly peer: SocketAddress;
}

/** Channel numbers by peer and peers by channel number, with their timers. */
export class ChannelBindings {
  readonly #byPeer = new Map<string, Binding>();
  readonly #byNumber = new Map<number, Binding>();
  #nextUnused: number = FIRST_CHANNEL;
  /** Numbers whose cool-down is over, oldest first. */
  readonly #reusable: ChannelNumber[] = [];
  /** Cached minimum over all bindings, so that asking for it costs nothing per packet. */
  #due: Millis = NEVER;

  /** No channels. */
  constructor() {}

  /** The peers of all bindings that are not expired. */
  get peers(): SocketAddress[] {
    return [...this.#byPeer.values()].filter((b) => b.state !== "expired").map((b) => b.peer);
  }

  /** When {@link takeDue} has something to do. */
  get due(): Millis {
    return this.#due;
  }

  /** The number through which data for `peer` may be sent: bound, or asked for. */
  numberFor(peer: SocketAddress): ChannelNumber | undefined {
    const binding = this.#byPeer.get(peer.key);
    return binding === undefined || binding.state === "expired" ? undefined : binding.number;
  }

  /** The peer whose data comes through `number`. */
  peerFor(number: ChannelNumber): SocketAddress | undefined {
    const binding = this.#byNumber.get(number);
    return binding === undefined || binding.state === "expired" ? undefined : binding.peer;
  }

  /** The number to ask for so that `peer` gets a channel; `undefined` if it has one or none is left. */
  request(peer: SocketAddress): ChannelNumber | undefined {
    const known = this.#byPeer.get(peer.key);
    if (known !== undefined) {
      if (known.state !== "expired") return undefined;
      known.state = "requested";
      known.inFlight = true;
      this.#reschedule();
      return known.number;
    }
    const number = toChannelNumber(this.#nextUnused) ?? this.#reusable.shift();
    if (number === undefined) return undefined;
    if (this.#nextUnused <= LAST_CHANNEL) this.#nextUnused++;
    const binding: Binding = {
      number,
      peer,
      state: "requested",
      inFlight: true,
      confirmedAt: NEVER,
      receivedSinceConfirmed: false,
    };
    this.#byPeer.set(peer.key, binding);
    this.#byNumber.set(number, binding);
    return number;
  }

  /** The relay confirmed the binding of `number`. */
  handleConfirmed(now: Millis, number: ChannelNumber): void {
    const binding = this.#byNumber.get(number);
    if (binding === undefined) return;
    binding.state = "bound";
    binding.inFlight = false;
    binding.confirmedAt = now;
    binding.receivedSinceConfirmed = false;
    this.#reschedule();
  }

  /** The relay refused to bind `number`. */
  handleRefused(number: ChannelNumber): void {
    const binding = this.#byNumber.get(number);
    if (binding === undefined) return;
    this.#forget(binding);
    this.#reschedule();
  }

  /** Data came through `number`. */
  noteReceived(now: Millis, number: ChannelNumber): void {
    const binding = this.#byNumber.get(number);
    if (binding === undefined || binding.receivedSinceConfirmed) return;
    binding.receivedSinceConfirmed = true;
    const refreshAt = refreshTime(binding);
    if (refreshAt < this.#due) this.#due = refreshAt < now ? now : refreshAt;
  }

  /** Lets expire what is due and returns the next binding to refresh, until there is none. */
  takeDue(now: Millis): WantedBinding | undefined {
    if (now < this.#due) return undefined;
    let refresh: Binding | undefined;
    for (const binding of this.#byPeer.values()) {
      if (binding.state === "bound" && now >= after(binding.confirmedAt, CHANNEL_LIFETIME_MS)) {
        binding.state = "expired";
        binding.inFlight = false;
      }
      if (binding.state === "expired" && now >= cooledDownTime(binding)) this.#forget(binding);
      else if (refresh === undefined && now >= refreshTime(binding)) refresh = binding;
    }
    if (refresh) refresh.inFlight = true;
    this.#reschedule();
    return refresh;
  }

  /** Forgets everything: the allocation is gone, and with it all its channels. */
  clear(): void {
    this.#byPeer.clear();
    this.#byNumber.clear();
    this.#nextUnused = FIRST_CHANNEL;
    this.#reusable.length = 0;
    this.#due = NEVER;
  }

  #forget(binding: Binding): void {
    this.#byPeer.delete(binding.peer.key);
    this.#byNumber.delete(binding.number);
    this.#reusable.push(binding.number);
  }

  #reschedule(): void {
    let due = NEVER;
    for (const binding of this.#byPeer.values()) {
      due = earlier(due, refreshTime(binding));
      if (binding.state === "bound") {
        due = earlier(due, after(binding.confirmedAt, CHANNEL_LIFETIME_MS));
      } else if (binding.state === "expired") due = earlier(due, cooledDownTime(binding));
    }
    this.#due = due;
  }
}

function refreshTime(binding: Binding): Millis {
  if (binding.state !== "bound" || binding.inFlight || !binding.receivedSinceConfirmed) {
    return NEVER;
  }
  return after(binding.confirmedAt, CHANNEL_REFRESH_MS);
}

function cooledDownTime(binding: Binding): Millis {
  return after(binding.confirmedAt, CHANNEL_LIFETIME_MS + CHANNEL_COOLDOWN_MS);
}
