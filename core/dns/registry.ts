/**
 * Numbers of DNS messages that some code here tells apart (IANA, DNS parameters).
 * @module
 */

/** Types of records and questions. */
export const RecordType = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  SVCB: 64,
  HTTPS: 65,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;

/** Response codes. */
export const Rcode = {
  NoError: 0,
  FormErr: 1,
  ServFail: 2,
  NxDomain: 3,
  NotImp: 4,
  Refused: 5,
} as const;

/** The Internet class. */
export const CLASS_IN = 1;

/**
 * Largest message over UDP that we ask for and hand out, in bytes (RFC 9715 §3.1): what passes any
 * path unfragmented, the tunnel included.
 */
export const MAX_UDP_MESSAGE = 1232;

/** Largest message over UDP for those who say nothing about it (RFC 1035 §4.2.1). */
export const MIN_UDP_MESSAGE = 512;
