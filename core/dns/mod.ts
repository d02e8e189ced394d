/**
 * DNS without sockets: messages, name patterns, sentinel and proxy addresses, a response cache.
 * @module
 */
export {};
