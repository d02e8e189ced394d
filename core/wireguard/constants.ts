/**
 * The constants of the WireGuard paper (§6.1), and apart from them our own.
 * @module
 */

/** The initiator makes new keys after so long, when it next sends (§6.2). */
export const REKEY_AFTER_TIME_MS = 120_000;

/** Keys older than this neither seal nor open (§6.2). */
export const REJECT_AFTER_TIME_MS = 180_000;

/** A handshake is given up after so long without an answer (§6.4); a tunnel may choose another. */
export const REKEY_ATTEMPT_TIME_MS = 90_000;

/** Between two initiations, at least (§6.1). */
export const REKEY_TIMEOUT_MS = 5_000;

/** At most so much is added to {@link REKEY_TIMEOUT_MS}, at random, so that two ends that start at
 * once do not collide for ever (§6.1). */
export const REKEY_JITTER_MS = 333;

/** Data that was not answered by anything for so long is answered by an empty message (§6.5). */
export const KEEPALIVE_TIMEOUT_MS = 10_000;

/**
 * The initiator makes new keys after so many messages. The paper says 2^60; our counters are exact
 * up to 2^53, which at ten million messages a second lasts for decades.
 */
export const REKEY_AFTER_MESSAGES: number = 2 ** 52;

/** No message with this counter or a greater one is sealed or opened; the paper says 2^64 - 2^13 - 1. */
export const REJECT_AFTER_MESSAGES: number = 2 ** 53 - 1;

/** Cookies and the secret behind them are replaced after so long (§5.4.7). */
export const COOKIE_LIFETIME_MS = 120_000;

/** Without new keys for so long, all that is left of the old ones is forgotten (§6.2). */
export const FORGET_AFTER_MS: number = 3 * REJECT_AFTER_TIME_MS;

/** Data sent but nothing heard for so long: the initiator makes new keys (§6.2). */
export const DEAD_PEER_AFTER_MS: number = KEEPALIVE_TIMEOUT_MS + REKEY_TIMEOUT_MS;

/** The initiator that receives with keys of this age makes new ones in time (§6.2). */
export const REKEY_ON_RECEIVE_AFTER_MS: number = REJECT_AFTER_TIME_MS - DEAD_PEER_AFTER_MS;

/** Ours: handshakes answered per second without asking for a cookie. */
export const HANDSHAKES_PER_SECOND = 100;

/** Ours: of the handshakes above that, those answered per second and address that has a cookie. */
export const HANDSHAKES_PER_SECOND_AND_ADDRESS = 20;

/** Ours: largest inner packet; padding never goes past it. */
export const INNER_MTU = 1280;
