/**
 * The client's side of HTTP/2, without its socket: requests with small answers.
 * @module
 */
export * from "./connection.ts";
export type { HeaderList, HeaderMap } from "./hpack.ts";
