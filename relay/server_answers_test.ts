/** What answers look like on the wire, and which request gets which: tables of exact outcomes. */

import { assert, assertEquals } from "@std/assert";
import { readU16 } from "@firezone/core/bytes";
import { SocketAddress, socketAddress } from "@firezone/core/ip";
import { METHOD, parseStunMessage, StunWriter } from "@firezone/core/stun";
import { Forwarding } from "./forwarding.ts";
import type { RelayServerOptions } from "./server.ts";
import {
  ALICE,
  BOB,
  codeOf,
  keyOf,
  PEER,
  PEER6,
  PUBLIC,
  ServerRig,
  withAttribute,
} from "./testing/server_rig.ts";

const NOWHERE = new Forwarding();

const NAMES: Readonly<Record<number, string>> = {
  0x0008: "MESSAGE-INTEGRITY",
  0x0009: "ERROR-CODE",
  0x000a: "UNKNOWN-ATTRIBUTES",
  0x000d: "LIFETIME",
  0x0014: "REALM",
  0x0015: "NONCE",
  0x0016: "XOR-RELAYED-ADDRESS",
  0x0020: "XOR-MAPPED-ADDRESS",
  0x8022: "SOFTWARE",
};

Deno.test("Answers have their attributes in the order that Firezone's relays give them", () => {
  const rig = new ServerRig();
  const signed = "MESSAGE-INTEGRITY";
  const outcome = (writer: StunWriter, isAuthenticated = true) => {
    const credentials = rig.credentials();
    if (isAuthenticated) writer.username(credentials.username).nonce(rig.nonce(ALICE));
    const bytes = writer.finish(isAuthenticated ? { integrityKey: keyOf(credentials) } : {});
    rig.server.handleClientInput(rig.now, rig.wall, ALICE, bytes, 0, bytes.length, NOWHERE);
    const [answer, ...others] = rig.takeDatagrams();
    assertEquals(others, []);
    return attributesOf(answer!);
  };
  assertEquals(outcome(rig.writer(METHOD.binding), false), ["SOFTWARE", "XOR-MAPPED-ADDRESS"]);
  const challenge = ["SOFTWARE", "ERROR-CODE", "REALM", "NONCE"];
  assertEquals(outcome(rig.allocateWriter(), false), challenge);
  assertEquals(outcome(rig.allocateWriter().additionalAddressFamily(6)), [
    "SOFTWARE",
    "XOR-RELAYED-ADDRESS",
    "XOR-RELAYED-ADDRESS",
    "XOR-MAPPED-ADDRESS",
    "LIFETIME",
    signed,
  ]);
  const bind = (peer: SocketAddress) =>
    rig.writer(METHOD.channelBind).channelNumber(0x4000).peerAddress(peer);
  assertEquals(outcome(bind(PEER)), ["SOFTWARE", signed]);
  assertEquals(outcome(rig.writer(METHOD.createPermission)), ["SOFTWARE", signed]);
  assertEquals(outcome(bind(BOB)), ["SOFTWARE", "ERROR-CODE", signed]);
  assertEquals(outcome(rig.writer(METHOD.refresh)), ["SOFTWARE", "LIFETIME", signed]);
  const named = rig.allocateWriter().username(rig.credentials().username);
  assertEquals(outcome(named, false), [...challenge, signed], "a challenge to who is known");
});

/** A row of the table of error codes: what is sent, after what, and what must come of it. */
interface Row {
  readonly name: string;
  readonly options?: Partial<RelayServerOptions>;
  /** Requests that went before, all of which succeed. */
  readonly before?: (rig: ServerRig) => void;
  readonly request: (rig: ServerRig) => StunWriter;
  readonly code: number;
  /** Whether it is sent with valid credentials, and then the answer is signed. */
  readonly isSigned: boolean;
  /** Tags of the commands that come of it. */
  readonly commands?: readonly string[];
}

const allocated = (rig: ServerRig) => void rig.allocate(ALICE);
const bound = (rig: ServerRig) => {
  rig.allocate(ALICE);
  rig.bind(ALICE, 0x4000, PEER);
};
const cooling = (rig: ServerRig) => {
  bound(rig);
  rig.refresh(ALICE, 3600);
  rig.advance(12 * 60_000);
};
const bind = (number: number, peer: SocketAddress) => (rig: ServerRig) =>
  rig.writer(METHOD.channelBind).channelNumber(number).peerAddress(peer);
const v4Only = { publicAddresses: { v4: PUBLIC.v4 } };
const v6Only = { publicAddresses: { v6: PUBLIC.v6 } };
const onePort = { ports: { lowest: 50_000, highest: 50_000 } };

const ROWS: readonly Row[] = [
  ...([
    ["another method", (rig) => rig.writer(0x00a), 400],
    ["ALLOCATE without transport", (rig) => rig.writer(METHOD.allocate), 400],
    ["CHANNEL-BIND without number", (rig) => rig.writer(METHOD.channelBind).peerAddress(PEER), 400],
    [
      "CHANNEL-BIND without peer",
      (rig) => rig.writer(METHOD.channelBind).channelNumber(0x4000),
      400,
    ],
    ["CHANNEL-BIND outside the numbers", bind(0x5000, PEER), 400],
    ["ALLOCATE without credentials", (rig) => rig.allocateWriter(), 401],
    ["REFRESH without credentials", (rig) => rig.writer(METHOD.refresh), 401],
    ["CHANNEL-BIND without credentials", bind(0x4000, PEER), 401],
    ["CREATE-PERMISSION without credentials", (rig) => rig.writer(METHOD.createPermission), 401],
  ] as [string, Row["request"], number][]).map(([name, request, code]) => ({
    name,
    request,
    code,
    isSigned: false,
  })),
  ...([
    ["ALLOCATE", {}, (r) => r.allocateWriter(), 0],
    ["ALLOCATE by who has one", { before: allocated }, (r) => r.allocateWriter(), 437],
    ["ALLOCATE over TCP", {}, (r) => r.writer(METHOD.allocate).requestedTransport(6), 442],
    [
      "ALLOCATE of both families in both ways",
      {},
      (r) => r.allocateWriter().requestedAddressFamily(4).additionalAddressFamily(6),
      400,
    ],
    ["ALLOCATE with IPv4 added", {}, (r) => r.allocateWriter().additionalAddressFamily(4), 400],
    ["ALLOCATE of IPv6", {}, (r) => r.allocateWriter().requestedAddressFamily(6), 0],
    [
      "ALLOCATE of IPv6 where there is none",
      { options: v4Only },
      (r) => r.allocateWriter().requestedAddressFamily(6),
      440,
    ],
    ["ALLOCATE of IPv4 where there is none", { options: v6Only }, (r) => r.allocateWriter(), 440],
    [
      "ALLOCATE of both where there is one",
      { options: v6Only },
      (r) => r.allocateWriter().additionalAddressFamily(6),
      0,
    ],
    [
      "ALLOCATE when all ports are taken",
      { options: onePort, before: (r) => void r.allocate(BOB, r.credentials("bob")) },
      (r) => r.allocateWriter(),
      508,
    ],
    ["REFRESH without allocation", {}, (r) => r.writer(METHOD.refresh), 437],
    ["REFRESH", { before: allocated }, (r) => r.writer(METHOD.refresh), 0],
    ["CHANNEL-BIND without allocation", {}, bind(0x4000, PEER), 437],
    ["CHANNEL-BIND", { before: allocated }, bind(0x4000, PEER), 0],
    ["CHANNEL-BIND again", { before: bound }, bind(0x4000, PEER), 0],
    ["CHANNEL-BIND of a bound peer", { before: bound }, bind(0x4001, PEER), 400],
    ["CHANNEL-BIND of a bound number", { before: bound }, bind(0x4000, PEER6), 400],
    ["CHANNEL-BIND of a peer in cool-down", { before: cooling }, bind(0x4001, PEER), 400],
    ["CHANNEL-BIND of a number in cool-down", { before: cooling }, bind(0x4000, PEER6), 400],
    ["CHANNEL-BIND of a pair in cool-down", { before: cooling }, bind(0x4000, PEER), 0],
    [
      "CHANNEL-BIND across families",
      { before: (r) => void r.authenticated(ALICE, r.allocateWriter()) },
      bind(0x4000, PEER6),
      443,
    ],
    [
      "CHANNEL-BIND to loopback",
      { before: allocated },
      bind(0x4000, socketAddress("127.0.0.1:53")),
      403,
    ],
    [
      "CHANNEL-BIND to our own port for clients",
      { before: allocated },
      bind(0x4000, new SocketAddress(PUBLIC.v4, 3478)),
      403,
    ],
    [
      "CHANNEL-BIND to another allocation",
      { before: allocated },
      bind(0x4000, new SocketAddress(PUBLIC.v6, 50_000)),
      0,
    ],
    [
      "CHANNEL-BIND to port 0",
      { before: allocated },
      bind(0x4000, socketAddress("192.0.2.9:0")),
      400,
    ],
    ["CREATE-PERMISSION without allocation", {}, (r) => r.writer(METHOD.createPermission), 0],
    [
      "CREATE-PERMISSION",
      { before: allocated },
      (r) => r.writer(METHOD.createPermission).peerAddress(PEER),
      0,
    ],
  ] as [string, Pick<Row, "options" | "before">, Row["request"], number][]).map((
    [name, context, request, code],
  ) => ({
    name,
    ...context,
    request,
    code,
    isSigned: true,
    commands: code === 0 && name.startsWith("ALLOCATE") ? ["create-allocation"] : [],
  })),
];

for (const { name, options, before, request, code, isSigned, commands = [] } of ROWS) {
  Deno.test(`${name} gets ${code || "a success"}, and nothing else happens`, () => {
    const rig = new ServerRig(options);
    before?.(rig);
    rig.takeCommands();
    const credentials = rig.credentials();
    const writer = request(rig);
    const answers = isSigned
      ? rig.authenticated(ALICE, writer, credentials)
      : rig.request(ALICE, writer);
    assertEquals(answers.map(codeOf), [code]);
    assertEquals(answers[0]!.hasIntegrity, isSigned);
    if (isSigned) assert(answers[0]!.verifyIntegrity(keyOf(credentials)));
    assertEquals(rig.takeCommands().map((c) => c.tag), commands);
    assertEquals(rig.takeAnswers(), []);
    rig.check();
  });
}

Deno.test("No attribute that Firezone's clients send earns a 420, on any request", () => {
  const rig = new ServerRig();
  const methods = [...Object.values(METHOD)];
  for (const method of methods) {
    const writer = rig.writer(method).software("connlib/1.0").requestedTransport(17)
      .additionalAddressFamily(6).lifetime(600).channelNumber(0x4000).peerAddress(PEER);
    const { username } = rig.credentials();
    writer.username(username).realm("firezone").nonce(rig.nonce(ALICE));
    const bytes = writer.finish({ integrityKey: keyOf(rig.credentials()), fingerprint: true });
    assertEquals(rig.datagram(ALICE, bytes).map(codeOf), [0], `method ${method}`);
  }
});

Deno.test("What must be understood and is not is named in a 420; what need not be is passed over", () => {
  const rig = new ServerRig();
  const [refused] = rig.datagram(ALICE, withAttribute(0x0003, rig.writer(METHOD.binding)));
  assertEquals(codeOf(refused!), 420);
  const bytes = withAttribute(0x0003, rig.writer(METHOD.binding));
  rig.server.handleClientInput(rig.now, rig.wall, ALICE, bytes, 0, bytes.length, NOWHERE);
  const [answer] = rig.takeDatagrams();
  assertEquals(attributesOf(answer!), ["SOFTWARE", "ERROR-CODE", "UNKNOWN-ATTRIBUTES"]);
  assertEquals(readU16(answer!, answer!.length - 4), 0x0003);
  assertEquals(rig.datagram(ALICE, withAttribute(0xc003, rig.writer(METHOD.binding))).map(codeOf), [
    0,
  ]);
  const dontFragment = withAttribute(0x001a, rig.allocateWriter());
  assertEquals(rig.datagram(ALICE, dontFragment).map(codeOf), [401], "who asks comes first");
});

Deno.test("An attribute that makes no sense gets 400 on a request and silence otherwise", () => {
  for (const [cls, codes] of [["request", [400]], ["indication", []], ["success", []]] as const) {
    const rig = new ServerRig();
    const lifetime = withAttribute(0x000d, new StunWriter(cls, METHOD.refresh, rig.id()));
    assertEquals(rig.datagram(ALICE, lifetime).map(codeOf), [...codes]);
    assertEquals(rig.server.counters.unasked, cls === "request" ? 0 : 1);
  }
});

Deno.test("A retransmission is answered with the same bytes, other requests again", () => {
  const rig = new ServerRig();
  const { username } = rig.credentials();
  const nonce = rig.nonce(ALICE);
  const requests = [
    rig.allocateWriter(),
    rig.writer(METHOD.refresh).lifetime(700),
    rig.writer(METHOD.channelBind).channelNumber(0x4000).peerAddress(PEER),
  ];
  for (const writer of requests) {
    const bytes = writer.username(username).nonce(nonce).finish({
      integrityKey: keyOf(rig.credentials()),
    });
    const answers = [1, 2, 3].map(() => {
      rig.server.handleClientInput(rig.now, rig.wall, ALICE, bytes, 0, bytes.length, NOWHERE);
      rig.takeCommands();
      return rig.takeDatagrams();
    });
    assertEquals(answers[0]!.length, 1);
    assertEquals(parseStunMessage(answers[0]![0]!, 0, answers[0]![0]!.length)?.class, "success");
    for (const again of answers) assertEquals(again, answers[0]);
  }
  assertEquals([rig.server.allocationCount, rig.server.channelCount], [1, 1]);
});

function attributesOf(message: Uint8Array): string[] {
  const names: string[] = [];
  for (let at = 20; at < message.length; at += 4 + (readU16(message, at + 2) + 3 & ~3)) {
    names.push(NAMES[readU16(message, at)] ?? readU16(message, at).toString(16));
  }
  return names;
}
