/**
 * What the micro bench measures.
 * @module
 */

import { AEAD_NAMES, loadAead } from "@firezone/core/crypto";
import { encodeQuery } from "@firezone/core/dns";
import { Candidate, IceAgent } from "@firezone/core/ice";
import {
  Coalescer,
  type Family,
  ip,
  IpAddress,
  packetMemory,
  PacketRef,
  parsePacket,
  Prefix,
  PrefixTable,
  PROTOCOL,
  Segmenter,
  socketAddress,
  TrafficFilter,
} from "@firezone/core/ip";
import { parseStunMessage } from "@firezone/core/stun";
import { seededRandom } from "@firezone/core/testing";
import type { Millis } from "@firezone/core/units";
import { StubResolver } from "../../client/dns/stub_resolver.ts";
import { makePacket as makeSegment } from "../../core/ip/packet_fixtures.ts";
import { Nat } from "../../gateway/nat/mod.ts";
import { makePacket } from "../../gateway/nat/packet_fixtures.ts";

/** Something to measure. */
export interface MicroCase {
  /** What it is. */
  readonly name: string;
  /** Packets that one call handles. */
  readonly packets: number;
  /** Makes what is needed; the function that it answers with is measured. */
  readonly prepare: () => () => void;
}

const PACKET = 1280;
/** About what one read of TUN holds. */
const BURST = 46;
const LOOKUPS = 1000;
const FLOWS = 10_000;
const SEALED = PACKET + 16;
const T0 = 1000 as Millis;

/** All cases, in the order of the table. */
export const CASES: readonly MicroCase[] = [
  ...AEAD_NAMES.flatMap(aeadCases),
  ...([4, 6] as const).flatMap((version) =>
    (["tcp", "udp"] as const).flatMap((protocol) => superPacketCases(version, protocol))
  ),
  { name: "STUN decode, binding request of ICE", packets: 1, prepare: decodeStun },
  { name: "ICE check answered", packets: 1, prepare: answerCheck },
  { name: "DNS answer, 1000 resources with wildcards", packets: 1, prepare: answerName },
  { name: `NAT towards the resource, ${FLOWS} flows`, packets: 1, prepare: () => nat("outbound") },
  { name: `NAT towards the client, ${FLOWS} flows`, packets: 1, prepare: () => nat("inbound") },
  { name: "filter of ten port ranges", packets: 100, prepare: filter },
  ...([4, 6] as const).flatMap((family) =>
    [10, 1000, 100_000].map((entries): MicroCase => ({
      name: `prefix lookup, IPv${family}, ${entries} entries`,
      packets: LOOKUPS,
      prepare: () => lookup(family, entries),
    }))
  ),
];

function aeadCases(name: typeof AEAD_NAMES[number]): MicroCase[] {
  const key = loadAead(name)?.key(new Uint8Array(32).fill(7));
  if (key === undefined) return [];
  const [plain, sealed] = [packetMemory(65_536), new Uint8Array(65_536)];
  const sealAll = () => {
    for (let i = 0; i < BURST; i++) {
      key.seal(i, plain, i * PACKET, (i + 1) * PACKET, sealed, i * SEALED);
    }
  };
  const openAll = () => {
    for (let i = 0; i < BURST; i++) {
      if (!key.open(i, sealed, i * SEALED, (i + 1) * SEALED, plain, i * PACKET)) {
        throw new Error(`${name} does not open what it has sealed`);
      }
    }
  };
  return [
    { name: `AEAD ${name}, seal`, packets: BURST, prepare: () => sealAll },
    {
      name: `AEAD ${name}, open`,
      packets: BURST,
      prepare: () => {
        sealAll();
        return openAll;
      },
    },
  ];
}

function superPacketCases(version: Family, protocol: "tcp" | "udp"): MicroCase[] {
  const kind = `${protocol} over IPv${version}`;
  const prepare = () => {
    const headers = (version === 4 ? 20 : 40) + (protocol === "tcp" ? 32 : 8);
    const payload = new Uint8Array(PACKET - headers).map((_, i) => i * 31);
    const joined = packetMemory(BURST * PACKET);
    for (let i = 0; i < BURST; i++) {
      joined.set(
        makeSegment({
          version,
          protocol,
          id: i,
          sequence: 1 + i * payload.length,
          options: new Uint8Array(12).fill(1),
          payload,
        }),
        i * PACKET,
      );
    }
    const coalescer = new Coalescer({ allocate: packetMemory });
    const glue = (sink: { write(buf: Uint8Array, start: number, length: number): void }) => {
      for (let i = 0; i < BURST; i++) coalescer.push(joined, PACKET * i, PACKET * (i + 1));
      coalescer.flush(sink);
    };
    return glue;
  };
  return [
    {
      name: `segmentation, ${kind}`,
      packets: BURST,
      prepare: () => {
        const read = packetMemory(65_546);
        let end = 0;
        prepare()({
          write: (buf, start, length) => {
            read.set(buf.subarray(start, start + length));
            end = length;
          },
        });
        const segmenter = new Segmenter();
        const packet = packetMemory(65_536);
        return () => {
          segmenter.begin(read, 0, end);
          while (segmenter.next(packet, 0) > 0);
        };
      },
    },
    {
      name: `coalescing, ${kind}`,
      packets: BURST,
      prepare: () => {
        const glue = prepare();
        const sink = { write() {} };
        return () => glue(sink);
      },
    },
  ];
}

/** An agent that controls and one that does not; the first check of the former. */
function iceAgents(): { agent: IceAgent; check: Uint8Array } {
  const [client, gateway] = [
    { username: "clnt", password: "a client's password " },
    { username: "gtwy", password: "a gateway's password" },
  ];
  const timing = { initialRtoMs: 250, maxRtoMs: 1500, retransmits: 12 };
  const make = (controlling: boolean) =>
    new IceAgent({
      controlling,
      local: controlling ? client : gateway,
      remote: controlling ? gateway : client,
      random: seededRandom(controlling ? 1 : 2),
      timing,
    });
  const [asking, agent] = [make(true), make(false)];
  for (
    const [own, local, remote] of [[asking, CLIENT, GATEWAY], [agent, GATEWAY, CLIENT]] as const
  ) {
    own.addLocalCandidate(T0, Candidate.host(local));
    own.addRemoteCandidate(T0, Candidate.host(remote));
    own.handleTimeout(T0);
  }
  const check = asking.pollTransmit();
  if (check === undefined) throw new Error("the agent checks nothing");
  return { agent, check: check.payload };
}

const CLIENT = socketAddress("192.0.2.1:52625");
const GATEWAY = socketAddress("192.0.2.2:52625");

function decodeStun(): () => void {
  const { check } = iceAgents();
  return () => {
    if (parseStunMessage(check, 0, check.length) === undefined) throw new Error("no STUN message");
  };
}

function answerCheck(): () => void {
  const { agent, check } = iceAgents();
  while (agent.pollTransmit() !== undefined);
  return () => {
    const message = parseStunMessage(check, 0, check.length)!;
    if (!agent.handleStun(T0, GATEWAY, CLIENT, message)) throw new Error("the check is refused");
    let answers = 0;
    while (agent.pollTransmit() !== undefined) answers++;
    while (agent.pollEvent() !== undefined);
    if (answers === 0) throw new Error("the check is not answered");
  };
}

function answerName(): () => void {
  const sentinel = ip("100.100.111.1");
  const query = encodeQuery(1, "db.example.com", "A");
  const stub = new StubResolver<number>({ random: seededRandom(1) });
  stub.setSystemServers([ip("192.0.2.53")]);
  stub.setResources(Array.from({ length: 1000 }, (_, i) => ({
    id: `r${i}`,
    pattern: i === 0 ? "*.example.com" : `**.site${i}.example.net`,
    ipStack: "dual" as const,
  })));
  return () => {
    stub.handleQuery(T0, 0, "udp", sentinel, query);
    while (stub.pollEvent() !== undefined);
    if (stub.pollAnswer() === undefined) throw new Error("no answer");
  };
}

function nat(direction: "outbound" | "inbound"): () => void {
  const nat = new Nat({ random: seededRandom(1) });
  const names = 1000;
  const proxy = (i: number) => `100.96.${i >> 8}.${i & 255}`;
  const real = (i: number) => `10.0.${i >> 8}.${i & 255}`;
  for (let i = 0; i < names; i++) {
    nat.assign(T0, {
      resourceId: "resource",
      domain: `host-${i}.example`,
      proxyIps: [0, 1, 2, 3].map((k) => ip(proxy(4 * i + k))),
      addresses: [ip(real(i + 1))],
    });
  }
  const packet = new PacketRef();
  const payload = new Uint8Array(1200);
  const packets = Array.from({ length: FLOWS }, (_, i) => {
    const port = 1024 + i;
    const ports = { sourcePort: port, destinationPort: 443 };
    const client = "100.64.0.1";
    const request = makePacket({
      protocol: "tcp",
      from: client,
      to: proxy(4 * (i % names)),
      ...ports,
      payload,
    });
    const sent = request.slice();
    parsePacket(sent, 0, sent.length, packet);
    nat.translateOutbound(T0, sent, packet, nat.proxyOf(sent, packet));
    return direction === "outbound" ? request : makePacket({
      protocol: "tcp",
      from: real((i % names) + 1),
      to: client,
      sourcePort: 443,
      destinationPort: port,
      payload,
    });
  });
  const scratch = new Uint8Array(2048);
  const { length } = packets[0]!;
  let next = 0;
  return () => {
    next = next + 7 < FLOWS ? next + 7 : 0;
    scratch.set(packets[next]!);
    parsePacket(scratch, 0, length, packet);
    if (direction === "outbound") {
      nat.translateOutbound(T0, scratch, packet, nat.proxyOf(scratch, packet));
    } else nat.translateInbound(T0, scratch, packet, nat.inboundFlow(T0, scratch, packet));
  };
}

function filter(): () => void {
  const filter = new TrafficFilter(Array.from({ length: 10 }, (_, i) => ({
    protocol: "tcp" as const,
    portStart: 1000 * i,
    portEnd: 1000 * i + 100,
  })));
  let admitted = 0;
  return () => {
    for (let i = 0; i < 100; i++) {
      if (filter.admits(i % 2 === 0 ? PROTOCOL.tcp : PROTOCOL.udp, 97 * i)) admitted++;
    }
    if (admitted === 0) throw new Error("the filter admits nothing");
  };
}

function lookup(family: Family, entries: number): () => void {
  const random = seededRandom(1);
  const table = new PrefixTable();
  for (let i = 0; i < entries; i++) {
    const length = family === 4 ? 8 + i % 25 : 16 + i % 113;
    table.insert(new Prefix(new IpAddress(random(family === 4 ? 4 : 16)), length), i);
  }
  const addresses = random(16 * LOOKUPS);
  let found = 0;
  return () => {
    for (let i = 0; i < LOOKUPS; i++) {
      if (table.lookup(family, addresses, 16 * i) >= 0) found++;
    }
    if (entries === 100_000 && found === 0) throw new Error("nothing is found");
  };
}
