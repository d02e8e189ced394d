/**
 * What tests across processes share.
 * @module
 */

export * from "./requirements.ts";
