/**
 * How patient a connection is, by the role of this end.
 *
 * The client gives up a silent path within seconds because it can ask for a new connection; the
 * gateway cannot, so it waits for the client to come back. A connection without inner packets for
 * {@link IDLE_AFTER_MS} checks its path at the idle cadence, which only keeps NATs open.
 * @module
 */

import { type IceTiming, pairTimeoutMs } from "../ice/mod.ts";

/** Which end of a connection this is: the client controls ICE and starts WireGuard handshakes. */
export type Role = "client" | "gateway";

/** Check timing while packets flow, and while none do. */
export const ICE_TIMING: Readonly<Record<Role, { active: IceTiming; idle: IceTiming }>> = {
  client: {
    active: { initialRtoMs: 250, maxRtoMs: 1500, retransmits: 12 },
    idle: { initialRtoMs: 25_000, maxRtoMs: 25_000, retransmits: 4 },
  },
  gateway: {
    active: { initialRtoMs: 250, maxRtoMs: 15_000, retransmits: 45 },
    idle: { initialRtoMs: 25_000, maxRtoMs: 25_000, retransmits: 40 },
  },
};

/** Without inner packets for so long, a connection is idle. More than a dead path takes to notice. */
export const IDLE_AFTER_MS = 20_000;

/** A connection whose peer has sent no candidate for so long has failed. */
export const NO_CANDIDATES_TIMEOUT_MS = 10_000;

/**
 * A client's connection that does not stand after so long has failed, whatever ICE still hopes for:
 * the peer may have given its half up, and the next packet asks for both halves anew.
 */
export const CONNECT_TIMEOUT_MS = 20_000;

/**
 * A client gives its gateway up after so long without a word from it, if a relay answers meanwhile:
 * what ICE's active timing gives one pair.
 */
export const PEER_SILENCE_MS: number = pairTimeoutMs(ICE_TIMING.client.active);

/** How long relays have for that answer, at the end of it: enough to be asked twice. */
export const RELAY_ANSWER_MS = 1_500;

/** A path that came back within this time after ICE gave it up was not lost. */
export const DISCONNECT_GRACE_MS = 2_000;

/**
 * How long WireGuard keeps trying one handshake: longer than the client's ICE takes to give a path
 * up, so that a session survives the move to another path.
 */
export const REKEY_ATTEMPT_TIME_MS = 20_000;

/**
 * Spacing of the first handshake's first repetitions. WireGuard alone would wait five seconds, which
 * is long for a user whose first packet waits, and the path is known to work.
 */
export const FIRST_HANDSHAKE_RETRY_MS = 1_000;

/** How often the first handshake is repeated at that pace, before WireGuard's own takes over. */
export const FIRST_HANDSHAKE_RETRIES = 4;

/** Inner packets kept while a connection is being made; the oldest goes first. */
export const MAX_BUFFERED_PACKETS = 128;
