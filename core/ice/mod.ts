/**
 * ICE (RFC 8445): candidates with their text form, and an agent that finds and keeps the best path.
 * @module
 */
export {
  IceAgent,
  type IceAgentOptions,
  type IceDrops,
  type IceEvent,
  type IceState,
  type NominatedPair,
} from "./agent.ts";
export type { IceCredentials } from "./binding.ts";
export { type Check, Checks } from "./checks.ts";
export { Candidate, type CandidateFields, type CandidateKind } from "./candidate.ts";
export { parseCandidate } from "./candidate_sdp.ts";
export type { CandidatePair, PairState } from "./pair.ts";
export { type IceTiming, pairTimeoutMs } from "./timing.ts";

// What the signatures above speak of.
export type { Family, IpAddress, SocketAddress } from "../ip/address.ts";
export type { RandomBytes } from "../random.ts";
export type { StunClass, StunError, StunMessage } from "../stun/mod.ts";
export type { Transmit } from "../transmit.ts";
export type { Brand, Millis } from "../units.ts";
