import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { createHmac } from "node:crypto";
import { writeU16 } from "@firezone/core/bytes";
import { ip, prefix, SocketAddress, socketAddress } from "@firezone/core/ip";
import {
  longTermKey,
  METHOD,
  parseStunMessage,
  type StunMessage,
  StunWriter,
} from "@firezone/core/stun";
import { seededRandom } from "@firezone/core/testing";
import {
  relayCredentials,
  toChannelNumber,
  type TurnCredentials,
  writeChannelDataHeader,
} from "@firezone/core/turn";
import { after, type Millis, type UnixSeconds } from "@firezone/core/units";
import { Forwarding } from "./forwarding.ts";
import { NONCE_LIFETIME_SECONDS } from "./nonces.ts";
import {
  MAX_BIND_ATTEMPTS,
  type RelayCommand,
  RelayServer,
  type RelayServerOptions,
} from "./server.ts";

const SECRET = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab";
const PUBLIC = { v4: ip("203.0.113.1"), v6: ip("2001:db8::1") };
const ALICE = socketAddress("198.51.100.1:5000");
const BOB = socketAddress("198.51.100.2:6000");
const PEER = socketAddress("192.0.2.9:7000");
const PEER6 = socketAddress("[2001:db8:9::9]:7000");
const SECOND = 1000;
const MINUTE = 60 * SECOND;

Deno.test("BINDING answers the sender's address without asking who it is", () => {
  const rig = new Rig();
  for (const client of [ALICE, socketAddress("[2001:db8:5::5]:1")]) {
    const [answer] = rig.request(client, new StunWriter("request", METHOD.binding, rig.id()));
    assertEquals(answer!.class, "success");
    assertEquals(answer!.mappedAddress?.key, client.key);
    assertEquals(answer!.software, "firezone-relay");
    assert(!answer!.hasIntegrity);
  }
});

Deno.test("What is no request gets no answer", () => {
  const rig = new Rig();
  const from0 = new SocketAddress(ALICE.ip, 0);
  assertEquals(rig.request(from0, new StunWriter("request", METHOD.binding, rig.id())), []);
  for (const cls of ["indication", "success", "error"] as const) {
    assertEquals(rig.request(ALICE, new StunWriter(cls, METHOD.binding, rig.id())), []);
  }
  const broken = new StunWriter("request", METHOD.binding, rig.id()).finish({ fingerprint: true });
  broken[broken.length - 1]! ^= 1;
  assertEquals(rig.datagram(ALICE, broken), []);
  const trailing = new Uint8Array([...new StunWriter("request", 1, rig.id()).finish(), 0]);
  assertEquals(rig.datagram(ALICE, trailing), []);
});

Deno.test("The relay survives any bytes from anyone", () => {
  const rig = new Rig();
  rig.allocate(ALICE);
  const stun = fc.tuple(fc.constantFrom(1, 3, 4, 8, 9), fc.uint8Array({ maxLength: 40 })).map(
    ([method, body]) => {
      const bytes = new Uint8Array(20 + body.length);
      bytes.set(new StunWriter("request", method, rig.id()).finish());
      bytes.set(body, 20);
      bytes[3] = body.length;
      return bytes;
    },
  );
  fc.assert(fc.property(fc.oneof(fc.uint8Array(), stun), (bytes) => {
    rig.datagram(ALICE, bytes);
    rig.fromPeer(PEER, 50_000, bytes);
  }));
});

Deno.test("A request is authenticated in the order of RFC 8489 §9.2.4", () => {
  const rig = new Rig();
  const credentials = rig.credentials();
  const key = keyOf(credentials);
  const refresh = () => new StunWriter("request", METHOD.refresh, rig.id());

  const [bare] = rig.request(ALICE, refresh());
  assertEquals([bare!.errorCode?.code, bare!.realm], [401, "firezone"]);
  assert(bare!.nonce !== undefined && !bare!.hasIntegrity);

  const [named] = rig.request(ALICE, refresh().username(credentials.username), key);
  assertEquals(named!.errorCode?.code, 401);
  assert(named!.verifyIntegrity(key), "a challenge to a named user is signed");

  const stale = refresh().username(credentials.username).nonce("made up");
  const [restart] = rig.request(ALICE, stale, key);
  assertEquals(restart!.errorCode?.code, 438);
  assert(restart!.verifyIntegrity(key) && restart!.nonce !== undefined);

  const nonce = bare!.nonce!;
  const wrongKey = keyOf({ ...credentials, password: "wrong" });
  const ok = () => refresh().username(credentials.username).nonce(nonce);
  assertEquals(rig.request(ALICE, ok(), wrongKey)[0]!.errorCode?.code, 401);
  assertEquals(rig.request(ALICE, ok(), key)[0]!.errorCode?.code, 437);
  assertEquals(rig.request(BOB, ok(), key)[0]!.errorCode?.code, 438, "another client's nonce");

  rig.advance((NONCE_LIFETIME_SECONDS + 1) * SECOND);
  assertEquals(rig.request(ALICE, ok(), key)[0]!.errorCode?.code, 438);
});

Deno.test("A username that is not ours, or has expired, is refused", () => {
  const rig = new Rig();
  const nonce = rig.nonce(ALICE);
  for (const username of ["alice", "1:2:3", "99999999999999999999:x", ":", ""]) {
    const writer = new StunWriter("request", METHOD.refresh, rig.id()).username(username);
    const [answer] = rig.request(ALICE, writer.nonce(nonce), new Uint8Array(16));
    assertEquals(answer!.errorCode?.code, 401, username);
    assert(!answer!.hasIntegrity);
  }
  const expired = relayCredentials(rig.wall - 1 as UnixSeconds, SECRET, "salt");
  const lastSecond = relayCredentials(rig.wall, SECRET, "salt");
  for (const [credentials, code] of [[expired, 401], [lastSecond, 437]] as const) {
    const writer = new StunWriter("request", METHOD.refresh, rig.id());
    const [answer] = rig.authenticated(ALICE, writer, credentials);
    assertEquals(answer!.errorCode?.code, code);
    assert(answer!.verifyIntegrity(keyOf(credentials)));
  }
});

Deno.test("ALLOCATE is answered when its socket is open, and signed", () => {
  const rig = new Rig({}, "later");
  const credentials = rig.credentials();
  assertEquals(rig.authenticated(ALICE, rig.allocateWriter(), credentials), []);
  const [create] = rig.takeCommands();
  assertEquals([create!.tag, create!.families], ["create-allocation", [4]]);
  assertEquals(rig.authenticated(ALICE, rig.allocateWriter(), credentials), [], "still opening");
  rig.server.handleAllocationCreated(rig.now, create!.id);
  const [answer] = rig.takeAnswers();
  assertEquals(answer!.class, "success");
  assertEquals(answer!.relayedAddresses.map((a) => a.key), [`203.0.113.1:${create!.port}`]);
  assertEquals([answer!.mappedAddress?.key, answer!.lifetimeSeconds], [ALICE.key, 600]);
  assert(answer!.verifyIntegrity(keyOf(credentials)));
});

Deno.test("A port that cannot be opened is tried no more; in the end the client gets 508", () => {
  const rig = new Rig({}, "later");
  rig.authenticated(ALICE, rig.allocateWriter());
  const tried: number[] = [];
  for (let i = 0; i < MAX_BIND_ATTEMPTS; i++) {
    const [create] = rig.takeCommands();
    tried.push(create!.port);
    rig.server.handleAllocationFailed(rig.now, create!.id);
  }
  assertEquals(rig.takeCommands(), []);
  assert(tried.every((port, i) => port !== tried[i - 1]));
  assertEquals(rig.takeAnswers()[0]!.errorCode?.code, 508);
  assertEquals(rig.server.allocationCount, 0);
  rig.authenticated(ALICE, rig.allocateWriter());
  assertEquals(rig.takeCommands().length, 1, "and may try again");
});

Deno.test("A retransmitted ALLOCATE gets the answer of the first, a new one gets 437", () => {
  const rig = new Rig();
  const id = rig.id();
  const writer = () =>
    new StunWriter("request", METHOD.allocate, id).requestedTransport(17).additionalAddressFamily(
      6,
    );
  const [first] = rig.authenticated(ALICE, writer());
  const [second] = rig.authenticated(ALICE, writer());
  assertEquals(second!.relayedAddresses, first!.relayedAddresses);
  assertEquals(rig.authenticated(ALICE, rig.allocateWriter())[0]!.errorCode?.code, 437);
});

Deno.test("ALLOCATE grants families as RFC 8656 §7.2 says", () => {
  const cases: [RelayServerOptions["publicAddresses"], (w: StunWriter) => StunWriter, unknown][] = [
    [PUBLIC, (w) => w, [4]],
    [PUBLIC, (w) => w.requestedAddressFamily(4), [4]],
    [PUBLIC, (w) => w.requestedAddressFamily(6), [6]],
    [PUBLIC, (w) => w.additionalAddressFamily(6), [4, 6]],
    [{ v4: PUBLIC.v4 }, (w) => w.additionalAddressFamily(6), [4]],
    [{ v6: PUBLIC.v6 }, (w) => w.additionalAddressFamily(6), [6]],
    [PUBLIC, (w) => w.additionalAddressFamily(4), 400],
    [PUBLIC, (w) => w.requestedAddressFamily(4).additionalAddressFamily(6), 400],
    [{ v4: PUBLIC.v4 }, (w) => w.requestedAddressFamily(6), 440],
    [{ v6: PUBLIC.v6 }, (w) => w, 440],
  ];
  for (const [publicAddresses, ask, expected] of cases) {
    const rig = new Rig({ publicAddresses });
    const [answer] = rig.authenticated(ALICE, ask(rig.allocateWriter()));
    const granted = answer!.relayedAddresses;
    assertEquals(answer!.errorCode?.code ?? granted.map((a) => a.family), expected);
    assert(granted.every((a) => a.port === granted[0]!.port), "one port in both families");
  }
});

Deno.test("ALLOCATE refuses what is not understood or not offered", () => {
  const rig = new Rig();
  const bare = () => new StunWriter("request", METHOD.allocate, rig.id());
  assertEquals(rig.request(ALICE, bare())[0]!.errorCode?.code, 400, "no transport");
  const [tcp] = rig.authenticated(ALICE, bare().requestedTransport(6));
  assertEquals(tcp!.errorCode?.code, 442);
  const { username, ...rest } = rig.credentials();
  const asked = bare().requestedTransport(17).username(username).nonce(rig.nonce(ALICE));
  const key = keyOf({ username, ...rest });
  const [dontFragment] = rig.datagram(ALICE, withAttribute(0x001a, asked, key));
  assertEquals(dontFragment!.errorCode?.code, 420);
  assert(dontFragment!.verifyIntegrity(key));
  const binding = () => new StunWriter("request", METHOD.binding, rig.id());
  assertEquals(rig.datagram(ALICE, withAttribute(0x0003, binding()))[0]!.errorCode?.code, 420);
  const shortLifetime = withAttribute(0x000d, binding());
  assertEquals(rig.datagram(ALICE, shortLifetime)[0]!.errorCode?.code, 400);
  const unknownMethod = new StunWriter("request", 0x00a, rig.id());
  assertEquals(rig.request(ALICE, unknownMethod)[0]!.errorCode?.code, 400);
});

Deno.test("All ports in use is 508, after the user's own old allocation was freed", () => {
  const rig = new Rig({ ports: { lowest: 50_000, highest: 50_000 } });
  const alice = rig.credentials("alice");
  const first = rig.allocate(ALICE, alice);
  const [refused] = rig.authenticated(BOB, rig.allocateWriter(), rig.credentials("bob"));
  assertEquals(refused!.errorCode?.code, 508);
  rig.takeCommands();
  const [again] = rig.authenticated(BOB, rig.allocateWriter(), alice);
  assertEquals(again!.relayedAddresses.map((a) => a.port), [first]);
  assertEquals(rig.takeCommands().map((c) => c.tag), ["free-allocation", "create-allocation"]);
});

Deno.test("One allocation per username: the newest wins, also over one that is still opening", () => {
  const rig = new Rig();
  rig.bind(ALICE, rig.allocate(ALICE), 0x4000, PEER);
  rig.allocate(BOB);
  assertEquals(rig.server.allocationCount, 1);
  assertEquals(rig.refresh(ALICE)!.errorCode?.code, 437);
  assertEquals(rig.fromClient(ALICE, 0x4000, 1), undefined);
  assertEquals(rig.server.channelCount, 0);

  const slow = new Rig({}, "later");
  slow.authenticated(ALICE, slow.allocateWriter());
  slow.authenticated(BOB, slow.allocateWriter());
  const commands = slow.takeCommands();
  assertEquals(commands.map((c) => c.tag), [
    "create-allocation",
    "free-allocation",
    "create-allocation",
  ]);
  for (const { tag, id } of commands) {
    if (tag === "create-allocation") slow.server.handleAllocationCreated(slow.now, id);
  }
  assertEquals(slow.takeAnswers().map((a) => a.mappedAddress?.key), [BOB.key]);
});

Deno.test("A shared username may have several allocations", () => {
  const { username } = relayCredentials(2_000_000_000 as UnixSeconds, SECRET, "shared");
  const rig = new Rig({ sharedUsernames: [username] });
  rig.allocate(ALICE, rig.credentials("shared"));
  rig.allocate(BOB, rig.credentials("shared"));
  assertEquals(rig.server.allocationCount, 2);
  rig.refresh(ALICE, 0);
  assertEquals(rig.refresh(BOB)!.class, "success");
});

Deno.test("REFRESH moves the end of an allocation; lifetime 0 ends it at once", () => {
  const rig = new Rig();
  rig.allocate(ALICE);
  const cases = [[undefined, 600], [1, 600], [1800, 1800], [1_000_000, 3600]] as const;
  for (const [asked, granted] of cases) {
    assertEquals(rig.refresh(ALICE, asked)!.lifetimeSeconds, granted);
    assertEquals(rig.server.pollTimeout(), after(rig.now, granted * SECOND));
  }
  rig.takeCommands();
  assertEquals(rig.refresh(ALICE, 0)!.lifetimeSeconds, 0);
  assertEquals(rig.takeCommands().map((c) => c.tag), ["free-allocation"]);
  assertEquals(rig.server.pollTimeout(), Infinity);
  assertEquals(rig.refresh(ALICE, 0)!.errorCode?.code, 437);
});

Deno.test("An allocation ends when its lifetime is over, with its channels", () => {
  const rig = new Rig();
  rig.bind(ALICE, rig.allocate(ALICE), 0x4000, PEER);
  rig.takeCommands();
  rig.advance(600 * SECOND - 1);
  assertEquals(rig.takeCommands(), []);
  assert(rig.fromClient(ALICE, 0x4000, 5) !== undefined);
  rig.advance(1);
  assertEquals(rig.takeCommands().map((c) => c.tag), ["free-allocation"]);
  assertEquals(rig.fromClient(ALICE, 0x4000, 5), undefined);
  assertEquals([rig.server.allocationCount, rig.server.channelCount], [0, 0]);
  assertEquals(rig.server.pollTimeout(), Infinity);
});

Deno.test("An allocation cannot be refreshed with an expired credential", () => {
  const rig = new Rig();
  const short = relayCredentials(rig.wall + 60 as UnixSeconds, SECRET, "salt");
  rig.allocate(ALICE, short);
  rig.advance(61 * SECOND);
  const writer = new StunWriter("request", METHOD.refresh, rig.id());
  assertEquals(rig.authenticated(ALICE, writer, short)[0]!.errorCode?.code, 401);
});

Deno.test("A channel carries data both ways, in both families", () => {
  const rig = new Rig();
  const port = rig.allocate(ALICE);
  for (const [number, peer] of [[0x4000, PEER], [0x4fff, PEER6]] as const) {
    assertEquals(rig.fromPeer(peer, port, new Uint8Array(9)), undefined, "not bound yet");
    rig.bind(ALICE, port, number, peer);
    const up = rig.fromClient(ALICE, number, 9);
    assertEquals(
      [up?.direction, up?.destination.key, up?.allocationPort, up && up.end - up.start],
      ["peer", peer.key, port, 9],
    );
    const down = rig.fromPeer(peer, port, new Uint8Array(9));
    assertEquals(
      [down?.direction, down?.destination.key, down?.channel, down?.start, down?.end],
      ["client", ALICE.key, number, 0, 9],
    );
  }
  assertEquals(rig.fromPeer(socketAddress("192.0.2.9:7001"), port, new Uint8Array(1)), undefined);
  assertEquals(rig.fromClient(BOB, 0x4000, 1), undefined);
  assertEquals(rig.fromClient(ALICE, 0x4001, 1), undefined);
  assertEquals(rig.server.counters.bytesToPeers, 18);
  assertEquals(rig.server.counters.bytesToClients, 18);
});

Deno.test("ChannelData may be padded, not cut short", () => {
  const rig = new Rig();
  rig.bind(ALICE, rig.allocate(ALICE), 0x4000, PEER);
  const out = new Forwarding();
  const padded = new Uint8Array([0x40, 0, 0, 1, 7, 0, 0, 0]);
  assert(rig.server.handleClientInput(rig.now, rig.wall, ALICE, padded, 0, 8, out));
  assertEquals([out.start, out.end], [4, 5]);
  assert(!rig.server.handleClientInput(rig.now, rig.wall, ALICE, padded, 0, 4, out));
});

Deno.test("Two clients of one relay meet without the network in between", () => {
  const rig = new Rig();
  const alice = rig.allocate(ALICE, rig.credentials("alice"));
  const bob = rig.allocate(BOB, rig.credentials("bob"));
  const toBob = new SocketAddress(PUBLIC.v4, bob);
  assertEquals(rig.fromClient(ALICE, 0x4000, 3), undefined);
  rig.bind(ALICE, alice, 0x4000, toBob);
  assertEquals(rig.fromClient(ALICE, 0x4000, 3), undefined, "Bob does not want it yet");
  rig.bind(BOB, bob, 0x4123, new SocketAddress(PUBLIC.v4, alice));
  const there = rig.fromClient(ALICE, 0x4000, 3);
  assertEquals(
    [there?.direction, there?.destination.key, there?.channel],
    ["client", BOB.key, 0x4123],
  );
  const back = rig.fromClient(BOB, 0x4123, 3);
  assertEquals([back?.destination.key, back?.channel], [ALICE.key, 0x4000]);
});

Deno.test("CHANNEL_BIND refuses what RFC 8656 §12.2 and the peer policy refuse", () => {
  const rig = new Rig();
  assertEquals(rig.bindCode(ALICE, 0x4000, PEER), 437);
  rig.authenticated(
    ALICE,
    new StunWriter("request", METHOD.allocate, rig.id()).requestedTransport(17),
  );
  assertEquals(rig.bindCode(ALICE, 0x4000, PEER6), 443);
  assertEquals(rig.bindCode(ALICE, 0x4000, socketAddress("127.0.0.1:53")), 403);
  assertEquals(rig.bindCode(ALICE, 0x4000, socketAddress("203.0.113.1:3478")), 403);
  assertEquals(rig.bindCode(ALICE, 0x4000, socketAddress("192.0.2.9:0")), 400);
  assertEquals(rig.bindCode(ALICE, 0x5000, PEER), 400);
  assertEquals(rig.bindCode(ALICE, 0x4000, PEER), 0);
  assertEquals(rig.bindCode(ALICE, 0x4000, PEER), 0, "a refresh");
  assertEquals(rig.bindCode(ALICE, 0x4001, PEER), 400, "peer has a channel");
  assertEquals(rig.bindCode(ALICE, 0x4000, BOB), 400, "channel has a peer");
  const half = new StunWriter("request", METHOD.channelBind, rig.id()).channelNumber(0x4000);
  assertEquals(rig.request(ALICE, half)[0]!.errorCode?.code, 400);
});

Deno.test("Peers that policy refuses can be allowed", () => {
  const rig = new Rig({ allowedPeers: [prefix("127.0.0.0/8")] });
  rig.allocate(ALICE);
  assertEquals(rig.bindCode(ALICE, 0x4000, socketAddress("127.0.0.1:53")), 0);
});

Deno.test("A channel ends after 10 minutes and its number is free 5 minutes later", () => {
  const rig = new Rig();
  const port = rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, port, 0x4000, PEER);
  rig.advance(10 * MINUTE - 1);
  assert(rig.fromClient(ALICE, 0x4000, 1) !== undefined);
  rig.advance(1);
  assertEquals(rig.fromClient(ALICE, 0x4000, 1), undefined);
  assertEquals(rig.fromPeer(PEER, port, new Uint8Array(1)), undefined);
  rig.advance(5 * MINUTE - 1);
  assertEquals(rig.bindCode(ALICE, 0x4000, BOB), 400);
  assertEquals(rig.bindCode(ALICE, 0x4001, PEER), 400);
  rig.advance(1);
  assertEquals(rig.bindCode(ALICE, 0x4000, BOB), 0);
  assertEquals(rig.bindCode(ALICE, 0x4001, PEER), 0);
});

Deno.test("A channel that is bound again in its cool-down works as before, both ways", () => {
  const rig = new Rig();
  const port = rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, port, 0x4000, PEER);
  rig.advance(14 * MINUTE);
  rig.bind(ALICE, port, 0x4000, PEER);
  rig.advance(9 * MINUTE);
  assert(rig.fromClient(ALICE, 0x4000, 1) !== undefined);
  assert(rig.fromPeer(PEER, port, new Uint8Array(1)) !== undefined);
});

Deno.test("Traffic does not keep a channel", () => {
  const rig = new Rig();
  const port = rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, port, 0x4000, PEER);
  for (let i = 0; i < 10; i++) {
    assert(rig.fromClient(ALICE, 0x4000, 1) !== undefined);
    rig.advance(MINUTE);
  }
  assertEquals(rig.fromClient(ALICE, 0x4000, 1), undefined);
});

Deno.test("Channel numbers of RFC 5766 are served where that is wanted", () => {
  for (const legacyChannels of [false, true]) {
    const rig = new Rig({ legacyChannels });
    const port = rig.allocate(ALICE);
    assertEquals(rig.bindCode(ALICE, 0x7fff, PEER), legacyChannels ? 0 : 400);
    const down = rig.fromPeer(PEER, port, new Uint8Array(1));
    assertEquals(down?.channel as number | undefined, legacyChannels ? 0x7fff : undefined);
    const up = new Uint8Array([0x7f, 0xff, 0, 1, 9]);
    const { server, now, wall } = rig;
    const forwards = server.handleClientInput(now, wall, ALICE, up, 0, 5, new Forwarding());
    assertEquals(forwards, legacyChannels);
    assertEquals(rig.bindCode(ALICE, 0x8000, BOB), 400);
  }
});

Deno.test("EVEN-PORT gets an even port; a pair of ports is not to be had", () => {
  const rig = new Rig();
  const { username } = rig.credentials();
  const key = keyOf(rig.credentials());
  const asked = () =>
    new StunWriter("request", METHOD.allocate, rig.id()).requestedTransport(17).username(username)
      .nonce(rig.nonce(ALICE));
  const [pair] = rig.datagram(ALICE, withAttribute(0x0018, asked(), key, [0x80]));
  assertEquals(pair!.errorCode?.code, 508);
  for (let i = 0; i < 8; i++) {
    const [even] = rig.datagram(ALICE, withAttribute(0x0018, asked(), key, [0]));
    assertEquals(even!.relayedAddresses[0]!.port % 2, 0);
    rig.refresh(ALICE, 0);
  }
});

Deno.test("CREATE_PERMISSION succeeds without effect for whoever is known", () => {
  const rig = new Rig();
  const writer = () => new StunWriter("request", METHOD.createPermission, rig.id());
  assertEquals(rig.request(ALICE, writer())[0]!.errorCode?.code, 401);
  assertEquals(rig.authenticated(ALICE, writer())[0]!.class, "success");
});

Deno.test("Any series of requests leaves the indices in agreement", () => {
  const clients = [ALICE, BOB, socketAddress("[2001:db8:5::5]:1")];
  const peers = [PEER, BOB, PEER6];
  const step = fc.record({
    what: fc.constantFrom("allocate", "refresh", "free", "bind", "wait"),
    client: fc.nat(2),
    user: fc.nat(2),
    peer: fc.nat(2),
    channel: fc.nat(2),
    seconds: fc.nat(900),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const rig = new Rig({ ports: { lowest: 50_000, highest: 50_001 } });
      const open = new Set<number>();
      for (const s of steps) {
        const client = clients[s.client]!;
        const user = rig.credentials(`user${s.user}`);
        if (s.what === "allocate") rig.authenticated(client, rig.allocateWriter(), user);
        else if (s.what === "refresh") rig.refresh(client, s.seconds);
        else if (s.what === "free") rig.refresh(client, 0);
        else if (s.what === "bind") rig.bindCode(client, 0x4000 + s.channel, peers[s.peer]!);
        else rig.advance(s.seconds * SECOND);
        for (const command of rig.takeCommands()) {
          if (command.tag === "create-allocation") {
            assert(!open.has(command.port), "a port is opened once");
            open.add(command.port);
          } else assert(open.delete(command.port), "what is closed was open");
        }
        assertEquals(rig.server.allocationCount, open.size);
        for (const port of open) {
          for (const peer of peers) {
            const down = rig.fromPeer(peer, port, new Uint8Array(1));
            if (down === undefined) continue;
            const up = rig.fromClient(down.destination, down.channel, 1);
            assertEquals([up?.destination.key, up?.allocationPort], [peer.key, port]);
          }
        }
      }
      for (const client of clients) rig.refresh(client, 0);
      assertEquals([rig.server.allocationCount, rig.server.channelCount], [0, 0]);
      assertEquals(rig.server.pollTimeout() === Infinity || rig.takeCommands().length > 0, true);
    }),
    { numRuns: 60 },
  );
});

Deno.test("Forwarding allocates nothing, however many allocations there are", () => {
  const rig = new Rig();
  for (let i = 0; i < 200; i++) {
    const client = socketAddress(`198.51.100.7:${1000 + i}`);
    rig.bind(client, rig.allocate(client, rig.credentials(`u${i}`)), 0x4000, PEER);
  }
  const port = rig.allocate(ALICE);
  rig.bind(ALICE, port, 0x4000, PEER);
  const data = new Uint8Array(1204);
  writeChannelDataHeader(data, 0, toChannelNumber(0x4000)!, 1200);
  const out = new Forwarding();
  const batch = () => {
    for (let i = 0; i < 1000; i++) {
      rig.server.handleClientInput(rig.now, rig.wall, ALICE, data, 0, data.length, out);
      rig.server.handlePeerInput(rig.now, PEER, port, 0, 1200, out);
    }
  };
  for (let i = 0; i < 100; i++) batch();
  const growth: number[] = [];
  for (let i = 0; i < 21; i++) {
    const before = Deno.memoryUsage().heapUsed;
    batch();
    growth.push(Deno.memoryUsage().heapUsed - before);
  }
  growth.sort((a, b) => a - b);
  assert(growth[10]! < 8000, `grew by ${growth[10]} bytes per 2000 packets`);
});

/** A relay with its owner: opens sockets in its mind, keeps the time. */
class Rig {
  readonly server: RelayServer;
  now = 1_000_000 as Millis;
  wall = 1_700_000_000 as UnixSeconds;
  readonly #random = seededRandom(7);
  readonly #commands: RelayCommand[] = [];
  readonly #opens: "at once" | "later";
  readonly #users = new Map<string, TurnCredentials>();

  constructor(options: Partial<RelayServerOptions> = {}, opens: "at once" | "later" = "at once") {
    this.#opens = opens;
    this.server = new RelayServer({
      publicAddresses: PUBLIC,
      stampSecret: SECRET,
      random: seededRandom(8),
      ...options,
    });
  }

  id(): string {
    return Array.from(this.#random(12), (b) => b.toString(16).padStart(2, "0")).join("");
  }

  credentials(salt = "salt"): TurnCredentials {
    return relayCredentials(2_000_000_000 as UnixSeconds, SECRET, salt);
  }

  advance(ms: number): void {
    this.now = after(this.now, ms);
    this.wall = this.wall + Math.floor(ms / 1000) as UnixSeconds;
    this.server.handleTimeout(this.now);
    this.#drain();
  }

  datagram(client: SocketAddress, bytes: Uint8Array): StunMessage[] {
    const out = new Forwarding();
    this.server.handleClientInput(this.now, this.wall, client, bytes, 0, bytes.length, out);
    return this.takeAnswers();
  }

  request(client: SocketAddress, writer: StunWriter, key?: Uint8Array): StunMessage[] {
    return this.datagram(client, writer.finish(key ? { integrityKey: key } : {}));
  }

  /** With a nonce, and with the credentials that the client allocated with unless others are given. */
  authenticated(
    client: SocketAddress,
    writer: StunWriter,
    credentials = this.#users.get(client.key) ?? this.credentials(),
  ): StunMessage[] {
    this.#users.set(client.key, credentials);
    writer.username(credentials.username).realm("firezone").nonce(this.nonce(client));
    return this.request(client, writer, keyOf(credentials));
  }

  nonce(client: SocketAddress): string {
    return this.request(client, new StunWriter("request", METHOD.refresh, this.id()))[0]!.nonce!;
  }

  allocateWriter(): StunWriter {
    return new StunWriter("request", METHOD.allocate, this.id()).requestedTransport(17);
  }

  /** Allocates in both families and returns the port. */
  allocate(client: SocketAddress, credentials?: TurnCredentials): number {
    const writer = this.allocateWriter().additionalAddressFamily(6);
    const [answer] = this.authenticated(client, writer, credentials);
    return answer!.relayedAddresses[0]!.port;
  }

  refresh(client: SocketAddress, seconds?: number): StunMessage | undefined {
    const writer = new StunWriter("request", METHOD.refresh, this.id());
    if (seconds !== undefined) writer.lifetime(seconds);
    return this.authenticated(client, writer)[0];
  }

  /** Binds a channel and returns the error code, 0 for success. */
  bindCode(client: SocketAddress, number: number, peer: SocketAddress): number {
    const writer = new StunWriter("request", METHOD.channelBind, this.id());
    const [answer] = this.authenticated(client, writer.channelNumber(number).peerAddress(peer));
    return answer!.errorCode?.code ?? 0;
  }

  bind(client: SocketAddress, _port: number, number: number, peer: SocketAddress): void {
    assertEquals(this.bindCode(client, number, peer), 0);
  }

  fromClient(client: SocketAddress, channel: number, length: number): Forwarding | undefined {
    const bytes = new Uint8Array(4 + length);
    writeChannelDataHeader(bytes, 0, toChannelNumber(channel)!, length);
    const out = new Forwarding();
    const { server, now, wall } = this;
    return server.handleClientInput(now, wall, client, bytes, 0, bytes.length, out)
      ? out
      : undefined;
  }

  fromPeer(peer: SocketAddress, port: number, bytes: Uint8Array): Forwarding | undefined {
    const out = new Forwarding();
    return this.server.handlePeerInput(this.now, peer, port, 0, bytes.length, out)
      ? out
      : undefined;
  }

  takeCommands(): RelayCommand[] {
    this.#drain();
    return this.#commands.splice(0);
  }

  takeAnswers(): StunMessage[] {
    this.#drain();
    const answers: StunMessage[] = [];
    for (let transmit; (transmit = this.server.pollTransmit()) !== undefined;) {
      answers.push(parseStunMessage(transmit.payload, 0, transmit.payload.length)!);
    }
    return answers;
  }

  #drain(): void {
    for (let command; (command = this.server.pollCommand()) !== undefined;) {
      this.#commands.push(command);
      if (command.tag === "create-allocation" && this.#opens === "at once") {
        this.server.handleAllocationCreated(this.now, command.id);
      }
    }
  }
}

function keyOf(credentials: TurnCredentials): Uint8Array {
  return longTermKey(credentials.username, credentials.realm, credentials.password);
}

/** A request with an attribute that {@link StunWriter} would not write; up to four bytes of value. */
function withAttribute(
  type: number,
  writer: StunWriter,
  key?: Uint8Array,
  value: readonly number[] = [],
): Uint8Array {
  const plain = writer.finish();
  const end = plain.length + 4 + (value.length > 0 ? 4 : 0);
  const bytes = new Uint8Array(end + (key ? 24 : 0));
  bytes.set(plain);
  writeU16(bytes, plain.length, type);
  writeU16(bytes, plain.length + 2, value.length);
  bytes.set(value, plain.length + 4);
  writeU16(bytes, 2, bytes.length - 20);
  if (key) {
    writeU16(bytes, end, 0x0008);
    writeU16(bytes, end + 2, 20);
    bytes.set(createHmac("sha1", key).update(bytes.subarray(0, end)).digest(), end + 4);
  }
  return bytes;
}
