/**
 * What tests share: assertions, replayable randomness, a simulated network.
 * @module
 */
export * from "./random.ts";
