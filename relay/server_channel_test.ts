import { assert, assertEquals } from "@std/assert";
import { medianHeapGrowth } from "@firezone/core/testing";
import { prefix, SocketAddress, socketAddress } from "@firezone/core/ip";
import { METHOD } from "@firezone/core/stun";
import { toChannelNumber, writeChannelDataHeader } from "@firezone/core/turn";
import { after } from "@firezone/core/units";
import { Forwarding } from "./forwarding.ts";
import { ALICE, BOB, MINUTE, PEER, PEER6, PUBLIC, ServerRig } from "./testing/server_rig.ts";

Deno.test("A channel carries data both ways, in both families", () => {
  const rig = new ServerRig();
  const port = rig.allocate(ALICE);
  for (const [number, peer] of [[0x4000, PEER], [0x4fff, PEER6]] as const) {
    assertEquals(rig.fromPeer(peer, port, new Uint8Array(9)), undefined, "not bound yet");
    rig.bind(ALICE, number, peer);
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
  const rig = new ServerRig();
  rig.allocate(ALICE);
  rig.bind(ALICE, 0x4000, PEER);
  const out = new Forwarding();
  const padded = new Uint8Array([0x40, 0, 0, 1, 7, 0, 0, 0]);
  assert(rig.server.handleClientInput(rig.now, rig.wall, ALICE, padded, 0, 8, out));
  assertEquals([out.start, out.end], [4, 5]);
  assert(!rig.server.handleClientInput(rig.now, rig.wall, ALICE, padded, 0, 4, out));
});

Deno.test("Two clients of one relay meet without the network in between", () => {
  const rig = new ServerRig();
  const alice = rig.allocate(ALICE, rig.credentials("alice"));
  const bob = rig.allocate(BOB, rig.credentials("bob"));
  const toBob = new SocketAddress(PUBLIC.v4, bob);
  assertEquals(rig.fromClient(ALICE, 0x4000, 3), undefined);
  rig.bind(ALICE, 0x4000, toBob);
  assertEquals(rig.fromClient(ALICE, 0x4000, 3), undefined, "Bob does not want it yet");
  rig.bind(BOB, 0x4123, new SocketAddress(PUBLIC.v4, alice));
  const there = rig.fromClient(ALICE, 0x4000, 3);
  assertEquals(
    [there?.direction, there?.destination.key, there?.channel],
    ["client", BOB.key, 0x4123],
  );
  const back = rig.fromClient(BOB, 0x4123, 3);
  assertEquals([back?.destination.key, back?.channel], [ALICE.key, 0x4000]);
});

Deno.test("CHANNEL_BIND refuses what RFC 8656 §12.2 and the peer policy refuse", () => {
  const rig = new ServerRig();
  assertEquals(rig.bindCode(ALICE, 0x4000, PEER), 437);
  rig.authenticated(
    ALICE,
    rig.writer(METHOD.allocate).requestedTransport(17),
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
  const half = rig.writer(METHOD.channelBind).channelNumber(0x4000);
  assertEquals(rig.request(ALICE, half)[0]!.errorCode?.code, 400);
});

Deno.test("Peers that policy refuses can be allowed", () => {
  const rig = new ServerRig({ allowedPeers: [prefix("127.0.0.0/8")] });
  rig.allocate(ALICE);
  assertEquals(rig.bindCode(ALICE, 0x4000, socketAddress("127.0.0.1:53")), 0);
});

Deno.test("A channel ends after 10 minutes and its number is free 5 minutes later", () => {
  const rig = new ServerRig();
  const port = rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, 0x4000, PEER);
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
  const rig = new ServerRig();
  const port = rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, 0x4000, PEER);
  rig.advance(14 * MINUTE);
  rig.bind(ALICE, 0x4000, PEER);
  rig.advance(9 * MINUTE);
  assert(rig.fromClient(ALICE, 0x4000, 1) !== undefined);
  assert(rig.fromPeer(PEER, port, new Uint8Array(1)) !== undefined);
});

Deno.test("Traffic does not keep a channel", () => {
  const rig = new ServerRig();
  rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, 0x4000, PEER);
  for (let i = 0; i < 10; i++) {
    assert(rig.fromClient(ALICE, 0x4000, 1) !== undefined);
    rig.advance(MINUTE);
  }
  assertEquals(rig.fromClient(ALICE, 0x4000, 1), undefined);
});

Deno.test("Channel numbers of RFC 5766 are served where that is wanted", () => {
  for (const legacyChannels of [false, true]) {
    const rig = new ServerRig({ legacyChannels });
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

Deno.test("Forwarding allocates nothing, however many allocations there are", () => {
  const rig = new ServerRig();
  for (let i = 0; i < 200; i++) {
    const client = socketAddress(`198.51.100.7:${1000 + i}`);
    rig.allocate(client, rig.credentials(`u${i}`));
    rig.bind(client, 0x4000, PEER);
  }
  const port = rig.allocate(ALICE);
  rig.bind(ALICE, 0x4000, PEER);
  const data = new Uint8Array(1204);
  writeChannelDataHeader(data, 0, toChannelNumber(0x4000)!, 1200);
  const out = new Forwarding();
  const batch = () => {
    for (let i = 0; i < 1000; i++) {
      rig.server.handleClientInput(rig.now, rig.wall, ALICE, data, 0, data.length, out);
      rig.server.handlePeerInput(rig.now, PEER, port, 0, 1200, out);
    }
  };
  const growth = medianHeapGrowth(batch, 8000);
  assert(growth < 8000, `grew by ${growth} bytes per 2000 packets`);
});

Deno.test("A channel is closed to the millisecond, even if nobody looked at the clock in between", () => {
  const rig = new ServerRig();
  const port = rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, 0x4000, PEER);
  rig.now = after(rig.now, 10 * MINUTE - 1);
  assert(rig.fromClient(ALICE, 0x4000, 1) && rig.fromPeer(PEER, port, new Uint8Array(1)));
  rig.now = after(rig.now, 1);
  assertEquals(rig.fromClient(ALICE, 0x4000, 1), undefined);
  assertEquals(rig.fromPeer(PEER, port, new Uint8Array(1)), undefined);
});

Deno.test("An allocation is closed to the millisecond as well", () => {
  const rig = new ServerRig();
  const port = rig.allocate(ALICE);
  rig.advance(1000);
  rig.bind(ALICE, 0x4000, PEER);
  rig.now = after(rig.now, 10 * MINUTE - 1001);
  assert(rig.fromClient(ALICE, 0x4000, 1) !== undefined);
  rig.now = after(rig.now, 1);
  assertEquals(rig.fromClient(ALICE, 0x4000, 1), undefined);
  assertEquals(rig.fromPeer(PEER, port, new Uint8Array(1)), undefined);
});

Deno.test("Channel numbers belong to their client: the same may mean another peer to another", () => {
  const rig = new ServerRig();
  const ports = [ALICE, BOB].map((client) =>
    rig.allocate(client, rig.credentials(`u${client.port}`))
  );
  rig.bind(ALICE, 0x4000, PEER);
  rig.bind(BOB, 0x4000, PEER6);
  rig.bind(BOB, 0x4001, PEER);
  assertEquals(rig.fromClient(ALICE, 0x4000, 1)?.destination.key, PEER.key);
  assertEquals(rig.fromClient(BOB, 0x4000, 1)?.destination.key, PEER6.key);
  assertEquals(rig.fromPeer(PEER, ports[0]!, new Uint8Array(1))?.destination.key, ALICE.key);
  assertEquals(rig.fromPeer(PEER, ports[1]!, new Uint8Array(1))?.destination.key, BOB.key);
  rig.refresh(ALICE, 0);
  assert(rig.fromClient(BOB, 0x4000, 1) !== undefined, "Bob's are untouched");
});

Deno.test("Clients of either family reach peers of either family", () => {
  const rig = new ServerRig();
  for (const client of [ALICE, socketAddress("[2001:db8:5::5]:1")]) {
    const port = rig.allocate(client, rig.credentials(`u${client.port}`));
    for (const [number, peer] of [[0x4000, PEER], [0x4001, PEER6]] as const) {
      rig.bind(client, number, peer);
      const up = rig.fromClient(client, number, 5);
      assertEquals([up?.destination.key, up?.allocationPort], [peer.key, port]);
      const down = rig.fromPeer(peer, port, new Uint8Array(5));
      assertEquals([down?.destination.key, down?.channel as number], [client.key, number]);
    }
  }
});

Deno.test("Data without bytes, and of as many as fit, is forwarded as it is", () => {
  const rig = new ServerRig();
  const port = rig.allocate(ALICE);
  rig.bind(ALICE, 0x4000, PEER);
  for (const length of [0, 1, 65_503]) {
    const up = rig.fromClient(ALICE, 0x4000, length);
    assertEquals([up?.start, up?.end], [4, 4 + length]);
    const down = rig.fromPeer(PEER, port, new Uint8Array(length));
    assertEquals([down?.start, down?.end], [0, length]);
  }
});

Deno.test("Neither data nor a channel's end makes commands or answers", () => {
  const rig = new ServerRig();
  const port = rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, 0x4000, PEER);
  rig.takeCommands();
  rig.fromClient(ALICE, 0x4000, 9);
  rig.fromClient(ALICE, 0x4001, 9);
  rig.fromClient(BOB, 0x4000, 9);
  rig.fromPeer(PEER, port, new Uint8Array(9));
  rig.fromPeer(BOB, port, new Uint8Array(9));
  rig.fromPeer(PEER, port + 1, new Uint8Array(9));
  rig.advance(15 * MINUTE);
  assertEquals([rig.takeCommands(), rig.takeAnswers()], [[], []]);
  assertEquals([rig.server.counters.unknownChannel, rig.server.counters.unknownPeer], [2, 2]);
  rig.check();
});
