/**
 * DNS without sockets: messages, name patterns, sentinel and proxy addresses, a response cache.
 * @module
 */
export {
  type AnswerRecord,
  asNoData,
  isAnswerTo,
  makeAnswer,
  returnedAnswer,
  truncateAnswer,
} from "./answer.ts";
export {
  addressesIn,
  type DecodedMessage,
  type DecodedRecord,
  decodeMessage,
  encodeQuery,
} from "./codec.ts";
export { NamePattern, type PatternMatch, PatternTable } from "./name_pattern.ts";
export {
  PROXY_RANGE_V4,
  PROXY_RANGE_V6,
  ProxyAddresses,
  proxyAddressesOf,
  type ProxyAddressesOptions,
  type ProxyRecord,
  proxySlotAt,
} from "./proxy_addresses.ts";
export { type DnsQuery, forwardedQuery, type ParsedQuery, parseQuery } from "./query.ts";
export { CLASS_IN, MAX_UDP_MESSAGE, MIN_UDP_MESSAGE, Rcode, RecordType } from "./registry.ts";
export { ResponseCache, type ResponseCacheOptions } from "./response_cache.ts";
export {
  effectiveServers,
  isSentinel,
  type Sentinel,
  SENTINEL_RANGE_V4,
  SENTINEL_RANGE_V6,
  SentinelMap,
  serverKey,
  type UpstreamServer,
} from "./sentinels.ts";
export { frameMessage, MessageReader } from "./stream.ts";
export {
  encodeName,
  findRecords,
  Flag,
  HEADER_LENGTH,
  parseQuestion,
  type Question,
  type RecordRef,
} from "./wire.ts";
