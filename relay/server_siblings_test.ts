/** Two servers that make one relay, with an owner that carries what one has for the other. */

import { assert, assertEquals } from "@std/assert";
import { SocketAddress } from "@firezone/core/ip";
import { type PortRange, slicePorts } from "./port_pool.ts";
import { ALICE, BOB, PEER, PUBLIC, ServerRig } from "./testing/server_rig.ts";

const RANGE: PortRange = { lowest: 50_000, highest: 50_009 };

Deno.test("A packet for a port of a sibling is told apart and accepted there", () => {
  const [one, two] = pair();
  const alice = one.allocate(ALICE, one.credentials("alice"));
  const bob = two.allocate(BOB, two.credentials("bob"));
  for (const ip of [PUBLIC.v4, PUBLIC.v6]) {
    const [aliceAt, bobAt] = [new SocketAddress(ip, alice), new SocketAddress(ip, bob)];
    const number = ip.family === 4 ? 0x4000 : 0x4001;
    one.bind(ALICE, number, bobAt);
    const sent = one.fromClient(ALICE, number, 9);
    assertEquals(
      [sent?.direction, sent?.destination.key, sent?.allocationPort, sent?.start, sent?.end],
      ["sibling", bobAt.key, alice, 4, 13],
    );
    assertEquals(two.fromPeer(aliceAt, bob, new Uint8Array(9)), undefined, "Bob does not want it");
    two.bind(BOB, number + 0x100, aliceAt);
    const received = two.fromPeer(aliceAt, bob, new Uint8Array(9));
    assertEquals(
      [received?.direction, received?.destination.key, received?.channel as number],
      ["client", BOB.key, number + 0x100],
    );
    const back = two.fromClient(BOB, number + 0x100, 3);
    assertEquals([back?.direction, back?.destination.key], ["sibling", aliceAt.key]);
  }
});

Deno.test("What goes over a sibling is counted once", () => {
  const [one, two] = pair();
  const alice = one.allocate(ALICE, one.credentials("alice"));
  const bob = two.allocate(BOB, two.credentials("bob"));
  one.bind(ALICE, 0x4000, new SocketAddress(PUBLIC.v4, bob));
  two.bind(BOB, 0x4000, new SocketAddress(PUBLIC.v4, alice));
  one.fromClient(ALICE, 0x4000, 100);
  two.fromPeer(new SocketAddress(PUBLIC.v4, alice), bob, new Uint8Array(100));
  const [a, b] = [one.server.counters, two.server.counters];
  assertEquals([a.packetsToPeers, a.packetsToClients], [0, 0]);
  assertEquals([b.packetsToPeers, b.packetsToClients, b.bytesToClients], [0, 1, 100]);
  assertEquals([a.sizes.values.sum, b.sizes.values.sum], [0, 100]);
});

Deno.test("Ports of the own part and peers elsewhere need no sibling", () => {
  const [one] = pair();
  const alice = one.allocate(ALICE, one.credentials("alice"));
  const bob = one.allocate(BOB, one.credentials("bob"));
  one.bind(ALICE, 0x4000, new SocketAddress(PUBLIC.v4, bob));
  one.bind(BOB, 0x4000, new SocketAddress(PUBLIC.v4, alice));
  one.bind(ALICE, 0x4001, PEER);
  assertEquals(one.fromClient(ALICE, 0x4000, 1)?.direction, "client");
  assertEquals(one.fromClient(ALICE, 0x4001, 1)?.direction, "peer");
  assertEquals(one.bindCode(ALICE, 0x4002, new SocketAddress(PUBLIC.v4, 50_010)), 403);
});

Deno.test("Each sibling gives out ports of its part alone", () => {
  for (const [i, rig] of pair().entries()) {
    const [lowest, highest] = [50_000 + 5 * i, 50_004 + 5 * i];
    for (let n = 0; n < 5; n++) {
      const port = rig.allocate(new SocketAddress(ALICE.ip, 1 + n), rig.credentials(`u${n}`));
      assert(port >= lowest && port <= highest);
    }
    const [full] = rig.authenticated(BOB, rig.allocateWriter(), rig.credentials("bob"));
    assertEquals(full!.errorCode?.code, 508);
  }
});

Deno.test("A client whose address changes to a sibling's share has one allocation in the end", () => {
  const [one, two] = pair();
  const user = one.credentials("ann");
  one.allocate(ALICE, user);
  const [created] = one.takeCommands();
  two.allocate(BOB, user);
  const [createdThere] = two.takeCommands();
  assertEquals([created!.soleOf, createdThere!.soleOf], [user.username, user.username]);
  one.server.handleSuperseded(one.now, created!.id, user.username);
  assertEquals(one.takeCommands().map((c) => c.tag), ["free-allocation"]);
  assertEquals([one.server.allocationCount, two.server.allocationCount], [0, 1]);
});

function pair(): [ServerRig, ServerRig] {
  const [a, b] = slicePorts(RANGE, 2).map((ports) => {
    const nonceKey = new Uint8Array(32).fill(1);
    return new ServerRig({ ports, relayPorts: RANGE, nonceKey });
  });
  return [a!, b!];
}
