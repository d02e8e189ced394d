/**
 * ICE (RFC 8445): candidates with their text form, and an agent that finds and keeps the best path.
 * @module
 */
export { Candidate, type CandidateFields, type CandidateKind } from "./candidate.ts";
export { parseCandidate } from "./candidate_sdp.ts";
export { type IceTiming, pairTimeoutMs } from "./timing.ts";
