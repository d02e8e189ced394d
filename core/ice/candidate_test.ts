import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { IpAddress, SocketAddress, socketAddress } from "../ip/address.ts";
import { Candidate } from "./candidate.ts";
import { parseCandidate } from "./candidate_sdp.ts";

const V4 = socketAddress("192.0.2.1:52625");
const V6 = socketAddress("[2001:db8::1]:52625");
const HOST = socketAddress("192.168.1.2:52625");

Deno.test("priorities follow RFC 8445 §5.1.2: host, peer-reflexive, server-reflexive, relay", () => {
  assertEquals(Candidate.host(V6).priority, 126 * 2 ** 24 + 65_535 * 2 ** 8 + 255);
  assertEquals(Candidate.host(V6).checkPriority, 110 * 2 ** 24 + 65_535 * 2 ** 8 + 255);
  const ordered = [
    Candidate.host(V6),
    Candidate.host(V4),
    Candidate.peerReflexive(V4, Candidate.host(V4).checkPriority),
    Candidate.serverReflexive(V4, HOST),
    Candidate.relayed(V6, V6),
    Candidate.relayed(V4, V4),
  ].map((candidate) => candidate.priority);
  assertEquals(ordered, ordered.toSorted((a, b) => b - a));
  assertEquals(new Set(ordered).size, ordered.length);
  for (const priority of ordered) assert(priority >= 1 && priority < 2 ** 31);
});

Deno.test("a relayed address of the family in which the relay is reached goes first", () => {
  const [same, other] = [Candidate.relayed(V4, V4), Candidate.relayed(V6, V4)];
  assert(same.priority > other.priority);
  assert(Candidate.relayed(V6, V6).priority > Candidate.relayed(V4, V6).priority);
});

Deno.test("foundations are shared by kind and base address, whatever the port", () => {
  const other = socketAddress("192.0.2.1:1");
  assertEquals(Candidate.host(V4).foundation, Candidate.host(other).foundation);
  const distinct = [
    Candidate.host(V4),
    Candidate.host(V6),
    Candidate.relayed(V4),
    Candidate.serverReflexive(V4, V4),
  ].map((candidate) => candidate.foundation);
  assertEquals(new Set(distinct).size, distinct.length);
  for (const foundation of distinct) assert(/^[A-Za-z0-9+/]{1,32}$/.test(foundation));
});

Deno.test("the key tells kind and address, so a relayed candidate is found without its relation", () => {
  assertEquals(Candidate.relayed(V4).key, Candidate.relayed(V4, HOST).key);
  assert(Candidate.relayed(V4).key !== Candidate.host(V4).key);
});

Deno.test("candidates are written as RFC 8839 §5.1 says", () => {
  const host = Candidate.host(V4);
  assertEquals(
    host.toSdp(),
    `candidate:${host.foundation} 1 udp ${host.priority} 192.0.2.1 52625 typ host`,
  );
  const reflexive = Candidate.serverReflexive(V4, HOST);
  assertEquals(
    reflexive.toSdp("mhk3"),
    `candidate:${reflexive.foundation} 1 udp ${reflexive.priority} 192.0.2.1 52625 typ srflx` +
      " raddr 192.168.1.2 rport 52625 ufrag mhk3",
  );
  const relayed = Candidate.relayed(V6);
  assertEquals(
    relayed.toSdp(),
    `candidate:${relayed.foundation} 1 udp ${relayed.priority} 2001:db8::1 52625 typ relay`,
  );
});

Deno.test("candidates of other writers are understood", () => {
  const accepted: [string, Partial<Candidate>][] = [
    // RFC 8839 §5.1 and §5.7 show these two forms.
    ["candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host", { kind: "host" }],
    [
      "a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998",
      { kind: "srflx", priority: 1694498815, relatedAddress: socketAddress("203.0.113.141:8998") },
    ],
    [
      "candidate:fffe007ed15e5ab1 1 udp 16776959 2001:db8::5 50000 typ relay raddr :: rport 0 ufrag x",
      { kind: "relay", foundation: "fffe007ed15e5ab1", ufrag: "x" },
    ],
    ["candidate:a/+ 1 udp 1 192.0.2.1 1 typ host tcptype passive ufrag aBc", { ufrag: "aBc" }],
    ["candidate:a 1 udp 1 192.0.2.1 1 typ prflx generation 0 network-id 3 odd", { kind: "prflx" }],
    ["  candidate:a 1 udp 1 192.0.2.1 1  typ host raddr nonsense rport 1\r\n", {
      relatedAddress: undefined,
    }],
  ];
  for (const [sdp, expected] of accepted) {
    const candidate = parseCandidate(sdp);
    assert(candidate, sdp);
    for (const [field, value] of Object.entries(expected)) {
      assertEquals(candidate[field as keyof Candidate], value as never, `${field} of ${sdp}`);
    }
    assertEquals(candidate.base, candidate.address);
  }
});

Deno.test("what is no candidate, or none for us, is refused", () => {
  const refused = [
    "",
    "candidate:",
    "candidate:1",
    "1 1 udp 1 192.0.2.1 1 typ host",
    "candidate:1 2 udp 1 192.0.2.1 1 typ host",
    "candidate:1 1 tcp 1 192.0.2.1 1 typ host",
    "candidate:1 1 udp 0 192.0.2.1 1 typ host",
    "candidate:1 1 udp 4294967296 192.0.2.1 1 typ host",
    "candidate:1 1 udp -1 192.0.2.1 1 typ host",
    "candidate:1 1 udp 1 example.org 1 typ host",
    "candidate:1 1 udp 1 192.0.2.1 0 typ host",
    "candidate:1 1 udp 1 192.0.2.1 65536 typ host",
    "candidate:1 1 udp 1 192.0.2.1 1 host",
    "candidate:1 1 udp 1 192.0.2.1 1 typ",
    "candidate:1 1 udp 1 192.0.2.1 1 typ relayed",
    "candidate:1 1 udp 1 0.0.0.0 1 typ host",
    "candidate:1 1 udp 1 :: 1 typ host",
    "candidate:1 1 udp 1 224.0.0.1 1 typ host",
    "candidate:1 1 udp 1 255.255.255.255 1 typ host",
    "candidate:1 1 udp 1 ff02::1 1 typ host",
    `candidate:1 1 udp 1 192.0.2.1 1 typ host ufrag ${"x".repeat(2000)}`,
  ];
  for (const sdp of refused) assertEquals(parseCandidate(sdp), undefined, sdp);
});

Deno.test("no text makes the parser throw", () => {
  const words = fc.constantFrom("candidate:1", "1", "udp", "typ", "host", "raddr", "::", "ufrag");
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    parseCandidate(text);
    parseCandidate(`candidate:${text}`);
  }));
  fc.assert(fc.property(fc.array(fc.oneof(words, fc.string())), (list) => {
    parseCandidate(list.join(" "));
  }));
});

Deno.test("what is written reads back", () => {
  const ip = fc.oneof(
    fc.tuple(fc.integer({ min: 1, max: 223 }), fc.nat(255), fc.nat(255), fc.nat(255))
      .map((bytes) => new IpAddress(new Uint8Array(bytes))),
    fc.uint8Array({ minLength: 15, maxLength: 15 })
      .map((bytes) => new IpAddress(new Uint8Array([0x20, ...bytes]))),
  );
  const address = fc.tuple(ip, fc.integer({ min: 1, max: 65535 }))
    .map(([ip, port]) => new SocketAddress(ip, port));
  fc.assert(fc.property(address, address, fc.nat(3), fc.boolean(), (a, b, kind, named) => {
    const candidate = [
      Candidate.host(a),
      Candidate.serverReflexive(a, b),
      Candidate.relayed(a, b),
      Candidate.peerReflexive(a, 1),
    ][kind]!;
    const parsed = parseCandidate(candidate.toSdp(named ? "wjgw" : undefined));
    assert(parsed);
    assertEquals([parsed.kind, parsed.address, parsed.priority, parsed.foundation], [
      candidate.kind,
      candidate.address,
      candidate.priority,
      candidate.foundation,
    ]);
    assertEquals(parsed.relatedAddress, candidate.relatedAddress);
    assertEquals(parsed.ufrag, named ? "wjgw" : undefined);
  }));
});
