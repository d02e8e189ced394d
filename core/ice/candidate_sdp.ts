/**
 * Candidates as text, the form in which the portal carries them.
 *
 *     candidate:<foundation> 1 udp <priority> <ip> <port> typ <kind>[ raddr <ip> rport <port>][ ufrag <x>]
 *
 * Spec: RFC 8839 §5.1. Deviations: one component, UDP, literal addresses; extensions other than
 * `ufrag` are skipped, wherever they stand.
 * @module
 */

import { type IpAddress, parseIpAddress, SocketAddress } from "../ip/address.ts";
import { Candidate, type CandidateFields, type CandidateKind } from "./candidate.ts";

const KINDS: ReadonlySet<string> = new Set<CandidateKind>(["host", "srflx", "prflx", "relay"]);
const MAX_LENGTH = 1024;
const MAX_PRIORITY = 0xffffffff;

/** Writes a candidate; `ufrag` is the user fragment of the end that it belongs to. */
export function formatCandidate(candidate: CandidateFields, ufrag: string | undefined): string {
  const { foundation, priority, address, kind, relatedAddress } = candidate;
  let text = `candidate:${foundation} 1 udp ${priority} ${address.ip} ${address.port} typ ${kind}`;
  if (relatedAddress && kind !== "host") {
    text += ` raddr ${relatedAddress.ip} rport ${relatedAddress.port}`;
  }
  return ufrag === undefined ? text : `${text} ufrag ${ufrag}`;
}

/**
 * Parses the peer's candidate, with or without `a=` in front.
 *
 * @returns `undefined` for what is malformed, what is of no use here (TCP, other components, names
 * instead of addresses), and addresses to which nobody sends (unspecified, multicast, port 0)
 */
export function parseCandidate(sdp: string): Candidate | undefined {
  if (sdp.length > MAX_LENGTH) return undefined;
  const text = sdp.trim().replace(/^a=/, "");
  if (!text.startsWith("candidate:")) return undefined;
  const [foundation, component, transport, priorityText, ipText, portText, typ, kind, ...rest] =
    text.slice("candidate:".length).split(/\s+/);
  if (!foundation || component !== "1" || transport?.toLowerCase() !== "udp") return undefined;
  if (typ !== "typ" || !isKind(kind)) return undefined;
  const address = parseEndpoint(ipText, portText);
  const priority = parseNumber(priorityText, MAX_PRIORITY);
  if (!address || address.port === 0 || isNowhere(address.ip) || !priority) return undefined;
  const extensions = parseExtensions(rest);
  return new Candidate({
    kind,
    address,
    base: address,
    priority,
    foundation,
    relatedAddress: parseEndpoint(extensions.get("raddr"), extensions.get("rport")),
    ufrag: extensions.get("ufrag"),
  });
}

function isKind(text: string | undefined): text is CandidateKind {
  return text !== undefined && KINDS.has(text);
}

function parseExtensions(words: readonly string[]): Map<string, string> {
  const extensions = new Map<string, string>();
  for (let i = 0; i + 1 < words.length; i += 2) {
    if (!extensions.has(words[i]!)) extensions.set(words[i]!, words[i + 1]!);
  }
  return extensions;
}

function parseEndpoint(ipText?: string, portText?: string): SocketAddress | undefined {
  const ip = ipText === undefined ? undefined : parseIpAddress(ipText);
  const port = parseNumber(portText, 65535);
  return ip && port !== undefined ? new SocketAddress(ip, port) : undefined;
}

function parseNumber(text: string | undefined, max: number): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const n = Number(text);
  return n <= max ? n : undefined;
}

function isNowhere(ip: IpAddress): boolean {
  const first = ip.bytes[0]!;
  return ip.bytes.every((byte) => byte === 0) || (ip.family === 4 ? first >= 224 : first === 0xff);
}
