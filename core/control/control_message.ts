/**
 * What the control packets say.
 *
 *     client ── AssignedIps { resource, domain, proxy_ips } ──► gateway   resolves, sets up its NAT
 *     client ◄── DomainStatus { resource, domain, status } ──── gateway   "Active" or "Inactive"
 *     client ◄──────────────────── Goodbye ───────────────────► gateway   the connection is over
 *
 * Delivery is not reliable, so every event may come again and means the same then. Domains travel
 * without a final dot. JSON keys that are not known are ignored, and a status that is not known
 * counts as inactive.
 * @module
 */

import * as v from "valibot";
import { toUtf8Text, utf8 } from "../bytes/mod.ts";
import { type IpAddress, parseIpAddress } from "../ip/address.ts";
import {
  controlBody,
  ControlEvent,
  controlEvent,
  controlPacket,
  looksLikeControlPacket,
  MAX_CONTROL_BODY,
} from "./control_packet.ts";

/** Client to gateway: these addresses stand for that domain of that resource. */
export interface AssignedIps {
  /** The portal's id of the DNS resource. */
  readonly resourceId: string;
  /** The name, as the client asks for it; without a final dot. */
  readonly domain: string;
  /** Four per address family that the resource answers with, eight at most. */
  readonly proxyIps: readonly IpAddress[];
}

/** Gateway to client: whether packets to the domain's addresses go anywhere. */
export interface DomainStatus {
  /** The portal's id of the DNS resource. */
  readonly resourceId: string;
  /** The name of the {@link AssignedIps} that is answered. */
  readonly domain: string;
  /** Active once the gateway translates. */
  readonly status: "active" | "inactive";
}

/** Any control packet that is known. */
export type ControlMessage =
  | AssignedIps & { readonly tag: "assigned-ips" }
  | DomainStatus & { readonly tag: "domain-status" }
  | { readonly tag: "goodbye" };

/** Most addresses that one domain is given: four of each family. */
export const MAX_PROXY_IPS = 8;

/** RFC 1035 §2.3.4, written as text. */
const MAX_DOMAIN_LENGTH = 253;
const MAX_ID_LENGTH = 256;
/** `ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255` */
const MAX_ADDRESS_LENGTH = 45;

/** The whole packet for {@link AssignedIps}. @throws RangeError when it says more than fits */
export function assignedIpsPacket({ resourceId, domain, proxyIps }: AssignedIps): Uint8Array {
  return jsonPacket(ControlEvent.AssignedIps, {
    resource: resourceId,
    domain,
    proxy_ips: proxyIps.map((ip) => ip.text),
  });
}

/** The whole packet for a {@link DomainStatus}. @throws RangeError when it says more than fits */
export function domainStatusPacket({ resourceId, domain, status }: DomainStatus): Uint8Array {
  return jsonPacket(ControlEvent.DomainStatus, {
    status: status === "active" ? "Active" : "Inactive",
    resource: resourceId,
    domain,
  });
}

/**
 * Reads the inner packet `buf[start, end)`, whatever its bytes; never throws.
 *
 * @returns undefined for what is no control packet, is of an event that is not known, or does not
 *   make sense; nothing of `buf` is kept
 */
export function parseControlPacket(
  buf: Uint8Array,
  start: number,
  end: number,
): ControlMessage | undefined {
  if (!looksLikeControlPacket(buf, start, end)) return undefined;
  const body = controlBody(buf, start);
  if (body === undefined || body.length > MAX_CONTROL_BODY) return undefined;
  switch (controlEvent(buf, start)) {
    case ControlEvent.AssignedIps:
      return parseJson(assignedIps, body);
    case ControlEvent.DomainStatus:
      return parseJson(domainStatus, body);
    case ControlEvent.Goodbye:
      return { tag: "goodbye" };
    default:
      return undefined;
  }
}

/** So that what was read can always be written again: other characters take up to six bytes. */
const PRINTABLE = /^[\x21-\x7e]+$/;

const resource = v.pipe(v.string(), v.maxLength(MAX_ID_LENGTH), v.regex(PRINTABLE));
const domain = v.pipe(v.string(), v.maxLength(MAX_DOMAIN_LENGTH), v.regex(PRINTABLE));

const proxyIp = v.pipe(
  v.string(),
  v.maxLength(MAX_ADDRESS_LENGTH),
  v.rawTransform<string, IpAddress>(({ dataset, addIssue, NEVER }) => {
    const address = parseIpAddress(dataset.value);
    if (address !== undefined) return address;
    addIssue({ message: "an IP address" });
    return NEVER;
  }),
);

const assignedIps = v.pipe(
  v.object({ resource, domain, proxy_ips: v.pipe(v.array(proxyIp), v.maxLength(MAX_PROXY_IPS)) }),
  v.transform((m): ControlMessage => ({
    tag: "assigned-ips",
    resourceId: m.resource,
    domain: m.domain,
    proxyIps: m.proxy_ips,
  })),
);

const domainStatus = v.pipe(
  v.object({ resource, domain, status: v.string() }),
  v.transform((m): ControlMessage => ({
    tag: "domain-status",
    resourceId: m.resource,
    domain: m.domain,
    status: m.status === "Active" ? "active" : "inactive",
  })),
);

function parseJson(
  schema: typeof assignedIps | typeof domainStatus,
  body: Uint8Array,
): ControlMessage | undefined {
  const text = toUtf8Text(body);
  if (text === undefined) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined; // the one way in which JSON.parse refuses
  }
  const result = v.safeParse(schema, json, { abortEarly: true });
  return result.success ? result.output : undefined;
}

function jsonPacket(event: number, value: unknown): Uint8Array {
  const body = utf8(JSON.stringify(value));
  if (body.length > MAX_CONTROL_BODY) {
    throw new RangeError(
      `Cannot send ${body.length} bytes in a control packet: expected at most ${MAX_CONTROL_BODY}`,
    );
  }
  return controlPacket(event, body);
}
