/**
 * DNS on the gateway: resolving the names of DNS resources, and the resolver that clients ask.
 * @module
 */
export * from "./proxy.ts";
export * from "./resolver.ts";
