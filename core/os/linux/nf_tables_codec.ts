/**
 * Packet filter tables as nf_tables messages.
 *
 *     batch begin │ new table │ new chain … │ new rule … │ batch end        one netlink send
 *
 *     rule = list of expressions; each loads a value into register 1 and compares it, or acts:
 *       source 100.64.0.0/11   meta nfproto == ipv4; payload network+12,4 & mask == prefix
 *       interface not "tun"    meta oifname != "tun\0…"
 *       masquerade             masq
 *
 * Spec: linux/netfilter/nf_tables.h; numbers in attributes are in network order.
 * Pure: nothing here touches the system.
 * @module
 */

import { writeU16 } from "../../bytes/fields.ts";
import type { IpAddress, Prefix } from "../../ip/address.ts";
import {
  attributeText,
  type NetlinkMessage,
  type NetlinkWriter,
  NLM_F,
  parseAttributes,
} from "./netlink_message.ts";

/** Family of a table; "inet" sees IPv4 and IPv6. */
export type NfFamily = "inet" | "ip" | "ip6";

/** Where in a packet's way a chain stands. */
export type NfHook = "prerouting" | "input" | "forward" | "output" | "postrouting";

/** Usual priorities of chains; lower runs first. */
export const NfPriority = { filter: 0, destinationNat: -100, sourceNat: 100 } as const;

/** A condition on a packet. */
export type NfMatch =
  /** Source (or destination) address lies in a range. */
  | { readonly tag: "source" | "destination"; readonly prefix: Prefix }
  /** Comes in (or leaves) by an interface, or by any other. */
  | {
    readonly tag: "input-interface" | "output-interface";
    readonly name: string;
    readonly not?: boolean;
  }
  /** Transport protocol. */
  | { readonly tag: "protocol"; readonly protocol: "tcp" | "udp" | "icmp" | "icmpv6" }
  /** TCP or UDP port; goes after a "protocol". */
  | { readonly tag: "source-port" | "destination-port"; readonly port: number };

/** What happens to a packet that all conditions hold for. */
export type NfAction =
  | { readonly tag: "accept" | "drop" }
  /** Source NAT to the address of the interface it leaves by. */
  | {
    readonly tag: "masquerade";
    /** Every flow gets a random port: what a symmetric NAT does. The port is kept if possible otherwise. */
    readonly randomPorts?: boolean;
  }
  /** Destination NAT; in a chain of type "nat" at "prerouting" or "output". */
  | { readonly tag: "redirect-to"; readonly ip: IpAddress; readonly port?: number };

/** A rule. */
export interface NfRule {
  /** All must hold; none: every packet. */
  readonly matches: readonly NfMatch[];
  /** What to do. */
  readonly action: NfAction;
  /** Shown by `nft list ruleset`; at most 127 bytes. */
  readonly comment?: string;
}

/** A chain at a hook. */
export interface NfChain {
  /** Unique within its table. */
  readonly name: string;
  /** Whether it filters or translates addresses. */
  readonly type: "filter" | "nat";
  /** Where it stands. */
  readonly hook: NfHook;
  /** Order among the chains of that hook; see {@link NfPriority}. */
  readonly priority: number;
  /** For packets that no rule has decided; accept if absent. */
  readonly policy?: "accept" | "drop";
  /** Asked in order. */
  readonly rules: readonly NfRule[];
}

/** A table with all it holds. */
export interface NfTable {
  /** Family. */
  readonly family: NfFamily;
  /** Unique within its family. */
  readonly name: string;
  /** Chains. */
  readonly chains: readonly NfChain[];
}

const NFPROTO: Readonly<Record<NfFamily, number>> = { inet: 1, ip: 2, ip6: 10 };
const HOOK: Readonly<Record<NfHook, number>> = {
  prerouting: 0,
  input: 1,
  forward: 2,
  output: 3,
  postrouting: 4,
};

const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
const MSG = { NEWTABLE: 0, GETTABLE: 1, DELTABLE: 2, NEWCHAIN: 3, NEWRULE: 6 } as const;

const NFTA_TABLE_NAME = 1;
const NFTA_TABLE_FLAGS = 2;
const NFT_TABLE_F_OWNER = 2;

const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_CHAIN_TYPE = 7;
const NFTA_HOOK_HOOKNUM = 1;
const NFTA_HOOK_PRIORITY = 2;
const NF_DROP = 0;
const NF_ACCEPT = 1;

const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_EXPRESSIONS = 4;
const NFTA_RULE_USERDATA = 7;
const NFTNL_UDATA_RULE_COMMENT = 0;
const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;

const REG_VERDICT = 0;
const REG_1 = 1;
const REG_2 = 2;
const META = { IIFNAME: 6, OIFNAME: 7, NFPROTO: 15, L4PROTO: 16 } as const;
const CMP = { EQ: 0, NEQ: 1 } as const;
const BASE = { NETWORK: 1, TRANSPORT: 2 } as const;
const IPPROTO = { tcp: 6, udp: 17, icmp: 1, icmpv6: 58 } as const;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY = 16;
const NFT_NAT_DNAT = 1;
const IFNAMSIZ = 16;

/** struct nfgenmsg, 4 bytes: u8 family, u8 version, u16 resource in network order. */
function genericHeader(family: number, resource = 0): Uint8Array {
  const header = new Uint8Array(4);
  header[0] = family;
  writeU16(header, 2, resource);
  return header;
}

/** Writes one transaction. */
export class NfBatchWriter {
  readonly #writer: NetlinkWriter;
  readonly #nextSequence: () => number;

  /** Begins the transaction. */
  constructor(writer: NetlinkWriter, nextSequence: () => number) {
    this.#writer = writer;
    this.#nextSequence = nextSequence;
    writer.begin(NFNL_MSG_BATCH_BEGIN, NLM_F.REQUEST, nextSequence())
      .header(genericHeader(0, NFNL_SUBSYS_NFTABLES));
  }

  /** Makes sure that a table exists. @param owned the kernel removes it with our socket (Linux 5.12) */
  table(family: NfFamily, name: string, owned: boolean): this {
    const w = this.#begin(MSG.NEWTABLE, NLM_F.CREATE, family).text(NFTA_TABLE_NAME, name);
    if (owned) w.u32be(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
    return this;
  }

  /** Removes a table, which must exist. */
  removeTable(family: NfFamily, name: string): this {
    this.#begin(MSG.DELTABLE, 0, family).text(NFTA_TABLE_NAME, name);
    return this;
  }

  /** Adds a chain with its rules. */
  chain(table: NfTable, chain: NfChain): this {
    this.#begin(MSG.NEWCHAIN, NLM_F.CREATE, table.family)
      .text(NFTA_CHAIN_TABLE, table.name)
      .text(NFTA_CHAIN_NAME, chain.name)
      .nest(NFTA_CHAIN_HOOK, (w) => {
        w.u32be(NFTA_HOOK_HOOKNUM, HOOK[chain.hook]).u32be(NFTA_HOOK_PRIORITY, chain.priority);
      })
      .u32be(NFTA_CHAIN_POLICY, chain.policy === "drop" ? NF_DROP : NF_ACCEPT)
      .text(NFTA_CHAIN_TYPE, chain.type);
    for (const rule of chain.rules) this.#rule(table, chain.name, rule);
    return this;
  }

  /** Ends the transaction. */
  finish(): NetlinkWriter {
    return this.#writer.begin(NFNL_MSG_BATCH_END, NLM_F.REQUEST, this.#nextSequence())
      .header(genericHeader(0, NFNL_SUBSYS_NFTABLES));
  }

  #rule(table: NfTable, chain: string, rule: NfRule): void {
    const w = this.#begin(MSG.NEWRULE, NLM_F.CREATE | NLM_F.APPEND, table.family)
      .text(NFTA_RULE_TABLE, table.name)
      .text(NFTA_RULE_CHAIN, chain)
      .nest(NFTA_RULE_EXPRESSIONS, (w) => {
        for (const match of rule.matches) writeMatch(w, table.family, match);
        writeAction(w, rule.action);
      });
    if (rule.comment !== undefined) w.attribute(NFTA_RULE_USERDATA, commentBytes(rule.comment));
  }

  #begin(message: number, flags: number, family: NfFamily): NetlinkWriter {
    return this.#writer
      .begin(nfType(message), NLM_F.REQUEST | NLM_F.ACK | flags, this.#nextSequence())
      .header(genericHeader(NFPROTO[family]));
  }
}

/** Appends a request for all tables. */
export function writeTableQuery(w: NetlinkWriter, sequence: number): void {
  w.begin(nfType(MSG.GETTABLE), NLM_F.REQUEST | NLM_F.DUMP, sequence).header(genericHeader(0));
}

/** Reads NFT_MSG_NEWTABLE; undefined for families that have no name here. */
export function parseTable(
  { body }: NetlinkMessage,
): { readonly family: NfFamily; readonly name: string } | undefined {
  const family = (Object.keys(NFPROTO) as NfFamily[]).find((name) => NFPROTO[name] === body[0]);
  const name = attributeText(parseAttributes(body, 4).get(NFTA_TABLE_NAME));
  return family === undefined || name === undefined ? undefined : { family, name };
}

function nfType(message: number): number {
  return NFNL_SUBSYS_NFTABLES << 8 | message;
}

function writeMatch(w: NetlinkWriter, family: NfFamily, match: NfMatch): void {
  switch (match.tag) {
    case "source":
    case "destination":
      return writePrefixMatch(w, family, match.prefix, match.tag === "source");
    case "input-interface":
    case "output-interface": {
      const name = new Uint8Array(IFNAMSIZ);
      new TextEncoder().encodeInto(match.name, name.subarray(0, IFNAMSIZ - 1));
      writeMeta(w, match.tag === "input-interface" ? META.IIFNAME : META.OIFNAME);
      return writeCompare(w, match.not ? CMP.NEQ : CMP.EQ, name);
    }
    case "protocol":
      writeMeta(w, META.L4PROTO);
      return writeCompare(w, CMP.EQ, Uint8Array.of(IPPROTO[match.protocol]));
    case "source-port":
    case "destination-port": {
      const port = new Uint8Array(2);
      writeU16(port, 0, match.port);
      writePayload(w, BASE.TRANSPORT, match.tag === "source-port" ? 0 : 2, 2);
      return writeCompare(w, CMP.EQ, port);
    }
  }
}

function writePrefixMatch(
  w: NetlinkWriter,
  family: NfFamily,
  prefix: Prefix,
  isSource: boolean,
): void {
  const isV4 = prefix.family === 4;
  if (family === "inet") {
    writeMeta(w, META.NFPROTO);
    writeCompare(w, CMP.EQ, Uint8Array.of(isV4 ? NFPROTO.ip : NFPROTO.ip6));
  }
  const length = prefix.ip.bytes.length;
  const offset = isV4 ? (isSource ? 12 : 16) : (isSource ? 8 : 24);
  writePayload(w, BASE.NETWORK, offset, length);
  if (prefix.length < length * 8) writeMask(w, maskBytes(prefix.length, length));
  writeCompare(w, CMP.EQ, prefix.ip.bytes);
}

function maskBytes(bits: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => {
    const ones = Math.min(8, Math.max(0, bits - i * 8));
    return 0xff00 >> ones & 0xff;
  });
}

function writeAction(w: NetlinkWriter, action: NfAction): void {
  switch (action.tag) {
    case "accept":
    case "drop":
      return writeExpression(w, "immediate", () => {
        w.u32be(1, REG_VERDICT); // NFTA_IMMEDIATE_DREG
        w.nest(2, () => { // NFTA_IMMEDIATE_DATA
          w.nest(NFTA_DATA_VERDICT, () => {
            w.u32be(NFTA_VERDICT_CODE, action.tag === "accept" ? NF_ACCEPT : NF_DROP);
          });
        });
      });
    case "masquerade":
      return writeExpression(w, "masq", () => {
        if (action.randomPorts) w.u32be(1, NF_NAT_RANGE_PROTO_RANDOM_FULLY); // NFTA_MASQ_FLAGS
      });
    case "redirect-to": {
      const { ip, port } = action;
      writeImmediate(w, REG_1, ip.bytes);
      if (port !== undefined) writeImmediate(w, REG_2, Uint8Array.of(port >> 8, port & 0xff));
      return writeExpression(w, "nat", () => {
        w.u32be(1, NFT_NAT_DNAT) // NFTA_NAT_TYPE
          .u32be(2, ip.family === 4 ? NFPROTO.ip : NFPROTO.ip6) // NFTA_NAT_FAMILY
          .u32be(3, REG_1); // NFTA_NAT_REG_ADDR_MIN
        if (port !== undefined) w.u32be(5, REG_2); // NFTA_NAT_REG_PROTO_MIN
      });
    }
  }
}

function writeImmediate(w: NetlinkWriter, register: number, value: Uint8Array): void {
  writeExpression(w, "immediate", () => {
    w.u32be(1, register).nest(2, () => w.attribute(NFTA_DATA_VALUE, value));
  });
}

function writeMeta(w: NetlinkWriter, key: number): void {
  writeExpression(w, "meta", () => w.u32be(1, REG_1).u32be(2, key)); // DREG, KEY
}

function writePayload(w: NetlinkWriter, base: number, offset: number, length: number): void {
  // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
  writeExpression(w, "payload", () => {
    w.u32be(1, REG_1).u32be(2, base).u32be(3, offset).u32be(4, length);
  });
}

function writeMask(w: NetlinkWriter, mask: Uint8Array): void {
  // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR
  writeExpression(w, "bitwise", () => {
    w.u32be(1, REG_1).u32be(2, REG_1).u32be(3, mask.length)
      .nest(4, () => w.attribute(NFTA_DATA_VALUE, mask))
      .nest(5, () => w.attribute(NFTA_DATA_VALUE, new Uint8Array(mask.length)));
  });
}

function writeCompare(w: NetlinkWriter, operator: number, value: Uint8Array): void {
  // NFTA_CMP_SREG, _OP, _DATA
  writeExpression(w, "cmp", () => {
    w.u32be(1, REG_1).u32be(2, operator).nest(3, () => w.attribute(NFTA_DATA_VALUE, value));
  });
}

function writeExpression(w: NetlinkWriter, name: string, fill: () => void): void {
  w.nest(NFTA_LIST_ELEM, () => {
    w.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill);
  });
}

/** One entry of nft's own format for user data: type, length, text with NUL. */
function commentBytes(comment: string): Uint8Array {
  const text = new TextEncoder().encode(`${comment}\0`);
  if (text.length > 128) throw new RangeError(`Comment is too long: ${comment}`);
  return Uint8Array.of(NFTNL_UDATA_RULE_COMMENT, text.length, ...text);
}
