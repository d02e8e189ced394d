import { assert, assertEquals } from "@std/assert";
import { ip, IpAddress, PacketRef, Parse, parsePacket, TCP_FLAG } from "@firezone/core/ip";
import { medianHeapGrowth, seededRandom } from "@firezone/core/testing";
import type { Millis } from "@firezone/core/units";
import fc from "fast-check";
import { Nat, type NatOptions, NoFlow, type Translation } from "./mod.ts";
import {
  describe,
  type Fields,
  makeError,
  makePacket,
  parsed,
  replyTo,
  wrongChecksums,
} from "./packet_fixtures.ts";

const T0 = 1_000 as Millis;
const at = (ms: number) => (T0 + ms) as Millis;

const CLIENT = { 4: "100.64.0.1", 6: "fd00:2021:1111::1" } as const;
const PROXIES = {
  4: ["100.96.0.1", "100.96.0.2", "100.96.0.3", "100.96.0.4"],
  6: [1, 2, 3, 4].map((i) => `fd00:2021:1111:8000::${i}`),
} as const;
const REALS = {
  4: ["10.0.0.5", "10.0.0.6", "192.0.2.7"],
  6: ["2001:db8::5", "2001:db8::6", "2001:db8:ffff::7"],
} as const;

function makeNat(options: Partial<NatOptions> = {}): Nat {
  return new Nat({ random: seededRandom(3), ...options });
}

function assign(
  nat: Nat,
  addresses: readonly string[],
  { domain = "db.example.com", resourceId = "db", proxyIps = [...PROXIES[4], ...PROXIES[6]] } = {},
): boolean {
  return nat.assign(T0, {
    resourceId,
    domain,
    proxyIps: proxyIps.map(ip),
    addresses: addresses.map(ip),
  });
}

function outbound(nat: Nat, now: Millis, packet: Uint8Array): Translation {
  const ref = parsed(packet);
  const proxy = nat.proxyOf(packet, ref);
  assert(proxy >= 0, "not a proxy address");
  return nat.translateOutbound(now, packet, ref, proxy);
}

function inbound(nat: Nat, now: Millis, packet: Uint8Array): number {
  const ref = parsed(packet);
  const flow = nat.inboundFlow(now, packet, ref);
  if (flow >= 0) nat.translateInbound(now, packet, ref, flow);
  return flow;
}

/** A UDP packet to the first proxy address, from a port. */
const udp = (sourcePort: number, to: string = PROXIES[4][0]!): Fields => ({
  protocol: "udp",
  from: CLIENT[4],
  to,
  sourcePort,
  destinationPort: 53,
});

const tcp = (sourcePort: number, flags: number): Fields => ({
  ...udp(sourcePort),
  protocol: "tcp",
  flags,
});

const { syn, ack, fin, rst } = TCP_FLAG;

/** Sends out a packet and returns what the real address would see. */
function sent(nat: Nat, now: Millis, fields: Fields): Fields {
  const packet = makePacket(fields);
  assertEquals(outbound(nat, now, packet), "translated");
  const ref = parsed(packet);
  const bytes = packet.slice(ref.destinationOffset, ref.destinationOffset + ref.addressLength);
  const port = ref.icmpType < 0
    ? ref.sourcePort
    : packet[ref.transportOffset + 4]! << 8 | packet[ref.transportOffset + 5]!;
  return { ...fields, to: new IpAddress(bytes).text, sourcePort: port };
}

const flows = fc.record({
  family: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constantFrom("tcp" as const, "udp" as const, "echo-request" as const),
  proxy: fc.nat({ max: 3 }),
  sourcePort: fc.nat({ max: 0xffff }),
  destinationPort: fc.nat({ max: 0xffff }),
  payload: fc.uint8Array({ maxLength: 40 }),
  withoutChecksum: fc.boolean(),
});

function fieldsOf({ family, proxy, ...rest }: {
  family: 4 | 6;
  proxy: number;
  protocol: "tcp" | "udp" | "echo-request";
  sourcePort: number;
  destinationPort: number;
  payload: Uint8Array;
  withoutChecksum: boolean;
}): Fields {
  return { ...rest, from: CLIENT[family], to: PROXIES[family][proxy]! };
}

Deno.test("what is answered comes back from where it was sent to, with right checksums", () => {
  fc.assert(fc.property(fc.array(flows, { minLength: 1, maxLength: 20 }), (all) => {
    const nat = makeNat();
    assign(nat, [...REALS[4], ...REALS[6]]);
    for (const one of all) {
      const fields = fieldsOf(one);
      const packet = makePacket(fields);
      assertEquals(outbound(nat, T0, packet), "translated");
      assertEquals(wrongChecksums(packet), []);
      const seen = sent(nat, T0, fields);
      assertEquals(seen.to, REALS[one.family][one.proxy % 3]);
      const reply = makePacket(replyTo(seen));
      assert(inbound(nat, T0, reply) >= 0);
      assertEquals(wrongChecksums(reply), []);
      assertEquals(describe(reply), describe(makePacket(replyTo(fields))));
    }
  }));
});

Deno.test("an ICMP error comes back as if the proxy address had sent it, quoting what was sent", () => {
  const errors = { 4: [[3, 1], [3, 4], [11, 0]], 6: [[1, 4], [2, 0], [3, 0]] } as const;
  fc.assert(fc.property(flows, fc.nat({ max: 2 }), fc.nat({ max: 60 }), (one, which, cut) => {
    const nat = makeNat();
    assign(nat, [...REALS[4], ...REALS[6]]);
    const fields = fieldsOf(one);
    // Another flow has the port, so that the quoted one has to be translated, too.
    outbound(nat, T0, makePacket({ ...fields, to: PROXIES[one.family][3 - one.proxy]! }));
    const seen = makePacket(sent(nat, T0, fields));
    const original = makePacket(fields);
    const header = one.family === 4 ? 20 : 40;
    const quoteLength = Math.max(header + 8, seen.length - cut);
    const [type, code] = errors[one.family][which]!;
    const router = one.family === 4 ? "172.16.0.1" : "fe80::1";
    const error = makeError(
      router,
      CLIENT[one.family],
      type,
      code,
      seen.subarray(0, quoteLength),
    );
    assertEquals(nat.translateInboundError(T0, error, parsed(error)), "translated");
    assertEquals(wrongChecksums(error), []);
    const expected = makeError(
      fields.to,
      CLIENT[one.family],
      type,
      code,
      original.subarray(0, quoteLength),
    );
    assertEquals(withoutChecksums(error), withoutChecksums(expected));
  }));
});

Deno.test("an ICMP error of the client goes to the one whose reply it is about", () => {
  fc.assert(fc.property(flows, fc.nat({ max: 60 }), (one, cut) => {
    const nat = makeNat();
    assign(nat, [...REALS[4], ...REALS[6]]);
    const fields = fieldsOf(one);
    outbound(nat, T0, makePacket({ ...fields, to: PROXIES[one.family][3 - one.proxy]! }));
    const seen = sent(nat, T0, fields);
    const reply = makePacket(replyTo(fields));
    const header = one.family === 4 ? 20 : 40;
    const length = Math.max(header + 8, reply.length - cut);
    const [type, code] = one.family === 4 ? [3, 3] : [1, 4];
    const error = makeError(fields.from, fields.to, type!, code!, reply.subarray(0, length));
    const ref = parsed(error);
    const proxy = nat.proxyOf(error, ref);
    assertEquals(nat.translateOutboundError(T0, error, ref, proxy), "translated");
    assertEquals(wrongChecksums(error), []);
    const expected = makeError(
      fields.from,
      seen.to,
      type!,
      code!,
      makePacket(replyTo(seen)).subarray(0, length),
    );
    assertEquals(withoutChecksums(error), withoutChecksums(expected));
  }));
});

/** Zeroes the checksums of an error and of its quote, whose representations may differ. */
function withoutChecksums(error: Uint8Array): Uint8Array {
  const copy = error.slice();
  const isIpv4 = copy[0]! >> 4 === 4;
  const header = isIpv4 ? 20 : 40;
  const clear = (offset: number) => void copy.fill(0, offset, offset + 2);
  const quote = header + 8;
  const protocol = copy[quote + (isIpv4 ? 9 : 6)]!;
  if (isIpv4) {
    clear(10);
    clear(quote + 10);
  }
  clear(header + 2);
  clear(quote + header + (protocol === 6 ? 16 : protocol === 17 ? 6 : 2));
  return copy;
}

Deno.test("proxy addresses take turns among the addresses of their family", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5", "2001:db8::5", "10.0.0.6"]);
  const targets = PROXIES[4].map((to) => sent(nat, T0, udp(5_000, to)).to);
  assertEquals(targets, ["10.0.0.5", "10.0.0.6", "10.0.0.5", "10.0.0.6"]);
  const six = PROXIES[6].map((to) => sent(nat, T0, { ...udp(5_000, to), from: CLIENT[6] }).to);
  assertEquals(new Set(six), new Set(["2001:db8::5"]));
});

Deno.test("a family that the name does not have goes nowhere", () => {
  const nat = makeNat();
  assign(nat, ["2001:db8::5"]);
  const packet = makePacket(udp(5_000));
  const before = packet.slice();
  assertEquals(outbound(nat, T0, packet), "no-target");
  assertEquals(packet, before);
  assertEquals(nat.flows, 0);
});

Deno.test("a port that another flow uses is replaced by the next one, after the last by the first", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  const ports = (port: number) => PROXIES[4].map((to) => sent(nat, T0, udp(port, to)).sourcePort);
  assertEquals(ports(5_000), [5_000, 5_001, 5_002, 5_003]);
  assertEquals(ports(5_002), [5_004, 5_005, 5_006, 5_007]);
  assertEquals(ports(65_534), [65_534, 65_535, 1, 2]);
  // Other kinds have ports of their own.
  assertEquals(sent(nat, T0, { ...udp(5_000), protocol: "tcp" }).sourcePort, 5_000);
  assertEquals(sent(nat, T0, { ...udp(5_000), protocol: "echo-request" }).sourcePort, 5_000);
});

Deno.test("when all ports are taken a new flow is refused, and made once one is free", () => {
  const nat = makeNat({ maxFlows: 100_000 });
  assign(nat, ["10.0.0.5"]);
  for (let port = 1; port <= 65_535; port++) sent(nat, T0, udp(port, PROXIES[4][0]));
  assertEquals(outbound(nat, T0, makePacket(udp(7, PROXIES[4][1]))), "exhausted");
  assertEquals(sent(nat, at(60_000), udp(7, PROXIES[4][1])).sourcePort, 7);
});

Deno.test("a full table refuses new flows and keeps the old ones, until some are over", () => {
  const nat = makeNat({ maxFlows: 10 });
  assign(nat, ["10.0.0.5"]);
  for (let port = 1; port <= 10; port++) sent(nat, T0, udp(port));
  assertEquals(outbound(nat, at(1), makePacket(udp(11))), "exhausted");
  sent(nat, at(2), udp(10));
  assertEquals(outbound(nat, at(59_999), makePacket(udp(11))), "exhausted");
  sent(nat, at(61_000), udp(11));
  assertEquals(nat.flows, 1);
});

Deno.test("flows live as long as their protocol wants after the last packet", () => {
  const minute = 60_000;
  const table: [string, Fields, number][] = [
    ["udp", udp(5_000), 2 * minute],
    ["icmp", { ...udp(5_000), protocol: "echo-request" }, 2 * minute],
    ["tcp", tcp(5_000, syn), 124 * minute],
  ];
  for (const [name, fields, ttl] of table) {
    const nat = makeNat();
    assign(nat, ["10.0.0.5"]);
    const seen = sent(nat, T0, fields);
    const reply = () => makePacket({ ...replyTo(seen), flags: ack });
    assert(inbound(nat, at(59_000), reply()) >= 0, name);
    assert(inbound(nat, at(59_000 + ttl - 1), reply()) >= 0, `${name}, prolonged by a reply`);
    sent(nat, at(59_000 + 2 * ttl - 2), { ...fields, flags: ack });
    assert(inbound(nat, at(59_000 + 3 * ttl - 3), reply()) >= 0, `${name}, prolonged by a packet`);
    assertEquals(inbound(nat, at(59_000 + 4 * ttl - 3), reply()), NoFlow.Expired, name);
  }
});

Deno.test("a flow without a reply lives for a minute, however much is sent", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  const seen = sent(nat, T0, udp(5_000));
  assign(nat, ["10.0.0.6"]); // flows that are there keep their address
  assertEquals(sent(nat, at(59_999), udp(5_000)).to, "10.0.0.5");
  assertEquals(sent(nat, at(60_000), udp(5_000)).to, "10.0.0.6");
  assertEquals(inbound(nat, at(60_001), makePacket(replyTo(seen))), NoFlow.Expired);
});

Deno.test("late replies are told from packets of other flows for two minutes", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  const seen = sent(nat, T0, udp(5_000));
  const late = makePacket(replyTo(seen));
  assertEquals(inbound(nat, at(60_000), late), NoFlow.Expired);
  assertEquals(inbound(nat, at(179_999), late), NoFlow.Expired);
  assertEquals(inbound(nat, at(180_000), late), NoFlow.Unknown);
  const other = makePacket({ ...replyTo(seen), from: "10.0.0.99" });
  assertEquals(inbound(nat, T0, other), NoFlow.Unknown);
});

Deno.test("a TCP flow ends at once with RST, from either end", () => {
  for (const side of ["client", "resource"] as const) {
    const nat = makeNat();
    assign(nat, ["10.0.0.5"]);
    const seen = sent(nat, T0, tcp(5_000, syn));
    const reset = makePacket({ ...replyTo(seen), flags: rst | ack });
    if (side === "client") sent(nat, T0, tcp(5_000, rst));
    else assert(inbound(nat, T0, reset) >= 0, "the RST itself passes");
    assertEquals(nat.flows, 0);
    assertEquals(inbound(nat, T0, makePacket(replyTo(seen))), NoFlow.Expired);
    assertEquals(sent(nat, T0, tcp(5_000, syn)).sourcePort, 5_000, "the port is free again");
  }
});

Deno.test("a TCP flow ends five seconds after both ends have finished", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  const seen = sent(nat, T0, tcp(5_000, syn));
  const reply = (flags: number) => makePacket({ ...replyTo(seen), flags });
  assert(inbound(nat, T0, reply(syn | ack)) >= 0);
  sent(nat, at(100), tcp(5_000, fin | ack));
  assert(inbound(nat, at(600_000), reply(ack)) >= 0, "half-closed connections may go on");
  assert(inbound(nat, at(600_000), reply(fin | ack)) >= 0);
  sent(nat, at(604_000), tcp(5_000, ack));
  assert(inbound(nat, at(604_999), reply(fin | ack)) >= 0, "a FIN that comes again");
  assertEquals(inbound(nat, at(605_000), reply(fin | ack)), NoFlow.Expired);
});

Deno.test("a new connection from the same port does not wait for the old one to be over", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  const seen = sent(nat, T0, tcp(5_000, syn));
  assert(inbound(nat, T0, makePacket({ ...replyTo(seen), flags: fin | ack })) >= 0);
  sent(nat, T0, tcp(5_000, fin | ack));
  assign(nat, ["10.0.0.6"]);
  assertEquals(sent(nat, at(1_000), tcp(5_000, ack)).to, "10.0.0.5");
  assertEquals(sent(nat, at(1_000), tcp(5_000, syn)).to, "10.0.0.6");
});

Deno.test("what a name resolves to anew is for new flows", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  sent(nat, T0, udp(5_000));
  assertEquals(assign(nat, ["10.0.0.6"]), false);
  assertEquals(sent(nat, T0, udp(5_000)).to, "10.0.0.5");
  assertEquals(sent(nat, T0, udp(5_001)).to, "10.0.0.6");
  assertEquals(nat.addresses, 2);
  for (let s = 1; s <= 400; s++) nat.sweep(at(s * 1_000));
  assertEquals([nat.flows, nat.addresses], [0, 1], "unused addresses are forgotten");
});

Deno.test("an address that is given to another name resets the client's NAT", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"], { domain: "a.example", proxyIps: ["100.96.0.1"] });
  assign(nat, ["10.0.0.6"], { domain: "b.example", proxyIps: ["100.96.0.5"] });
  const seen = sent(nat, T0, udp(5_000, "100.96.0.5"));
  assertEquals(assign(nat, ["10.0.0.7"], { domain: "c.example", proxyIps: ["100.96.0.1"] }), true);
  assertEquals([nat.names, nat.flows, nat.addresses], [1, 0, 1]);
  const stale = makePacket(udp(5_000, "100.96.0.5"));
  assertEquals(nat.proxyOf(stale, parsed(stale)), -1);
  assertEquals(inbound(nat, T0, makePacket(replyTo(seen))), NoFlow.Unknown);
  assertEquals(sent(nat, T0, udp(5_000, "100.96.0.1")).to, "10.0.0.7");
});

Deno.test("a name may belong to several resources, and is forgotten with the last of them", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"], { resourceId: "one" });
  assign(nat, ["10.0.0.5"], { resourceId: "two", proxyIps: [...PROXIES[4]] });
  const of = (to: string) => {
    const packet = makePacket({ ...udp(1, to), from: to.includes(":") ? CLIENT[6] : CLIENT[4] });
    return nat.resourceIds(nat.proxyOf(packet, parsed(packet)));
  };
  assertEquals(of("100.96.0.1"), ["one", "two"]);
  assertEquals(of("fd00:2021:1111:8000::1"), ["one"]);
  const seen = sent(nat, T0, udp(5_000));
  nat.retain(T0, (_, id) => id === "two");
  assertEquals(of("100.96.0.1"), ["two"]);
  assert(inbound(nat, T0, makePacket(replyTo(seen))) >= 0);
  nat.retain(T0, () => false);
  assertEquals([nat.names, nat.flows], [0, 0]);
  assertEquals(inbound(nat, T0, makePacket(replyTo(seen))), NoFlow.Expired);
  const packet = makePacket(udp(5_000));
  assertEquals(nat.proxyOf(packet, parsed(packet)), -1);
});

Deno.test("the name that was assigned longest ago makes way when there are too many", () => {
  const nat = makeNat({ maxNames: 2 });
  const name = (i: number) =>
    assign(nat, ["10.0.0.5"], { domain: `host-${i}.example`, proxyIps: [`100.96.1.${i}`] });
  name(1);
  name(2);
  name(1);
  name(3);
  const isThere = (i: number) => {
    const packet = makePacket(udp(1, `100.96.1.${i}`));
    return nat.proxyOf(packet, parsed(packet)) >= 0;
  };
  assertEquals([1, 2, 3].map(isThere), [true, false, true]);
  assertEquals(nat.names, 2);
});

Deno.test("what cannot be translated is left as it was", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  const gre = makePacket(udp(5_000));
  gre[9] = 47;
  const fragment = makePacket(udp(5_000));
  fragment[6] = 0x20;
  const echoReply = makePacket({ ...udp(5_000), protocol: "echo-reply" });
  const timestamp = makePacket({ ...udp(5_000), protocol: "echo-request" });
  timestamp[20] = 13;
  const table: [Uint8Array, Translation][] = [
    [gre, "unsupported"],
    [fragment, "fragment"],
    [echoReply, "unsupported"],
    [timestamp, "unsupported"],
  ];
  for (const [packet, result] of table) {
    const before = packet.slice();
    assertEquals(outbound(nat, T0, packet), result);
    assertEquals(packet, before);
  }
});

Deno.test("errors about unknown flows pass as they are, about flows that are over not at all", () => {
  const nat = makeNat();
  assign(nat, ["10.0.0.5"]);
  const seen = makePacket(sent(nat, T0, udp(5_000)));
  const about = (quote: Uint8Array, now: Millis) => {
    const error = makeError("172.16.0.1", CLIENT[4], 3, 1, quote);
    const before = error.slice();
    const result = nat.translateInboundError(now, error, parsed(error));
    if (result !== "translated") assertEquals(error, before);
    return result;
  };
  assertEquals(about(seen, T0), "translated");
  assertEquals(about(seen, at(60_000)), "expired");
  assertEquals(about(makePacket({ ...udp(5_000), to: "10.1.1.1" }), T0), "unknown");
  assertEquals(about(seen.subarray(0, 27), T0), "unknown");
  assertEquals(about(new Uint8Array(0), T0), "unknown");
});

Deno.test("no bytes make it throw", () => {
  const nat = makeNat();
  assign(nat, [...REALS[4], ...REALS[6]]);
  const ref = new PacketRef();
  const seeds = fc.oneof(
    fc.uint8Array({ minLength: 20, maxLength: 100 }),
    flows.map((one) => makePacket(fieldsOf(one))),
    flows.map((one) => makePacket(replyTo(sent(nat, T0, fieldsOf(one))))),
    flows.map((one) => {
      const fields = fieldsOf(one);
      return makeError(fields.from, fields.to, one.family === 4 ? 3 : 1, 0, makePacket(fields));
    }),
  );
  const changes = fc.array(fc.tuple(fc.nat({ max: 99 }), fc.nat({ max: 255 })), { maxLength: 4 });
  fc.assert(
    fc.property(seeds, changes, fc.nat({ max: 10_000_000 }), (seed, changed, time) => {
      const packet = seed.slice();
      for (const [offset, byte] of changed) packet[offset % packet.length] = byte;
      if (parsePacket(packet, 0, packet.length, ref) !== Parse.Ok) return;
      const now = at(time);
      const flow = nat.inboundFlow(now, packet, ref);
      if (flow >= 0) nat.translateInbound(now, packet, ref, flow);
      nat.translateInboundError(now, packet, ref);
      const proxy = nat.proxyOf(packet, ref);
      if (proxy < 0) return;
      nat.translateOutbound(now, packet, ref, proxy);
      nat.translateOutboundError(now, packet, ref, proxy);
    }),
    { numRuns: 2_000 },
  );
});

Deno.test("the packets of a flow allocate nothing", () => {
  const nat = makeNat();
  assign(nat, [...REALS[4], ...REALS[6]]);
  const request = makePacket(tcp(5_000, ack));
  const reply = makePacket({ ...replyTo(sent(nat, T0, tcp(5_000, syn))), flags: ack });
  const packet = new PacketRef();
  const scratch = new Uint8Array(100);
  const batch = () => {
    for (let i = 0; i < 1_000; i++) {
      scratch.set(request);
      parsePacket(scratch, 0, request.length, packet);
      nat.translateOutbound(T0, scratch, packet, nat.proxyOf(scratch, packet));
      scratch.set(reply);
      parsePacket(scratch, 0, reply.length, packet);
      nat.translateInbound(T0, scratch, packet, nat.inboundFlow(T0, scratch, packet));
    }
  };
  const growth = medianHeapGrowth(batch, 2_000);
  assert(growth < 2_000, `grew by ${growth} bytes per 2000 packets`);
});
