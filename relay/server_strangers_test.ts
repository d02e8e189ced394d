/** What a relay answers to who has shown nothing, and what a crowd of clients notices of it: nothing. */

import { assert, assertEquals } from "@std/assert";
import { SocketAddress, socketAddress } from "@firezone/core/ip";
import { METHOD, type StunWriter } from "@firezone/core/stun";
import { Nonces } from "./nonces.ts";
import { DEFAULT_BUDGET } from "./response_budget.ts";
import { ALICE, BOB, codeOf, keyOf, PEER, SECOND, ServerRig } from "./testing/server_rig.ts";

const SMALL = { perSource: 2, burst: 5, total: 1000, totalBurst: 1000 };
/** In Alice's network, as far as budgets are concerned. */
const MALLORY = socketAddress("198.51.100.66:666");
const NONCE_KEY = new Uint8Array(32).fill(3);

/** Requests that anybody can make up. */
const UNPROVEN: readonly [string, (rig: ServerRig) => Uint8Array][] = [
  ["BINDING", (rig) => rig.writer(METHOD.binding).finish()],
  ["ALLOCATE without credentials", (rig) => rig.allocateWriter().finish()],
  [
    "ALLOCATE with a nonce that was made up",
    (rig) => signed(rig, rig.allocateWriter().nonce("A".repeat(26))),
  ],
  [
    "ALLOCATE of a user that was made up",
    (rig) =>
      rig.allocateWriter().username("1:x").nonce(new Nonces(NONCE_KEY).issue(rig.wall, MALLORY))
        .finish({ integrityKey: new Uint8Array(16) }),
  ],
  ["ALLOCATE without transport", (rig) => rig.writer(METHOD.allocate).finish()],
  ["another method", (rig) => rig.writer(0x00a).finish()],
];

for (const [name, make] of UNPROVEN) {
  Deno.test(`${name} is answered within the budget of its source, then dropped and counted`, () => {
    const rig = new ServerRig({ budget: SMALL, nonceKey: NONCE_KEY });
    const ask = (from: SocketAddress) => rig.datagram(from, make(rig)).length;
    assertEquals([1, 2, 3, 4, 5, 6, 7].map(() => ask(MALLORY)), [1, 1, 1, 1, 1, 0, 0]);
    assertEquals(rig.server.counters.overBudget, 2);
    assertEquals(ask(new SocketAddress(ALICE.ip, 1)), 0, "another address of the same network");
    assertEquals(ask(socketAddress("203.0.114.1:9")), 1, "another network");
    rig.advance(SECOND);
    assertEquals([1, 2, 3].map(() => ask(MALLORY)), [1, 1, 0]);
    assertEquals(rig.takeCommands(), []);
    rig.check();
  });
}

Deno.test("An exhausted network hurts neither who has an allocation nor who proves to be a user", () => {
  const rig = new ServerRig({ budget: SMALL });
  rig.allocate(ALICE, rig.credentials("alice"));
  rig.bind(ALICE, 0x4000, PEER);
  const nonce = rig.nonce(BOB);
  while (rig.request(MALLORY, rig.writer(METHOD.binding)).length > 0);
  // Alice has an allocation: all of hers is answered, a keep-alive and a challenge as well.
  for (let i = 0; i < 20; i++) {
    assertEquals(rig.request(ALICE, rig.writer(METHOD.binding)).map(codeOf), [0]);
    assertEquals(rig.request(ALICE, rig.writer(METHOD.refresh)).map(codeOf), [401]);
    assertEquals(codeOf(rig.refresh(ALICE)!), 0);
    assert(rig.fromClient(ALICE, 0x4000, 9) !== undefined);
  }
  // Bob has a nonce and a credential.
  const { username } = rig.credentials("bob");
  const writer = rig.allocateWriter().username(username).nonce(nonce);
  assertEquals(rig.request(BOB, writer, keyOf(rig.credentials("bob"))).map(codeOf), [0]);
  assertEquals(rig.request(MALLORY, rig.writer(METHOD.binding)), []);
});

Deno.test("A thousand clients behind one NAT start at once, keep alive and start again, unhindered", () => {
  const rig = new ServerRig();
  const clients = Array.from({ length: 1000 }, (_, i) => new SocketAddress(ALICE.ip, 1024 + i));
  const start = (client: SocketAddress) => {
    // Twice the address, as retransmitted on a bad link, then one challenge.
    for (const _ of [1, 2]) {
      assertEquals(rig.request(client, rig.writer(METHOD.binding)).map(codeOf), [0]);
    }
    assertEquals(
      rig.authenticated(client, rig.allocateWriter(), rig.credentials(`u${client.port}`))
        .map(codeOf),
      [0],
    );
  };
  clients.forEach(start);
  for (let second = 0; second < 100; second += 25) {
    rig.advance(25 * SECOND);
    for (const client of clients) {
      assertEquals(rig.request(client, rig.writer(METHOD.binding)).map(codeOf), [0]);
    }
  }
  // Without REFRESH their allocations end together, and all of them come back in one second.
  rig.advance(600 * SECOND);
  assertEquals(rig.server.allocationCount, 0);
  clients.forEach(start);
  assertEquals(rig.server.counters.overBudget, 0);
});

Deno.test("Strangers from everywhere are answered at a bounded rate and leave nothing behind", () => {
  const rig = new ServerRig();
  const { total, totalBurst } = DEFAULT_BUDGET;
  const flood = () => {
    let answers = 0;
    for (let i = 0; i < 2 * totalBurst; i++) {
      const from = `${1 + (i >> 16)}.${i >> 8 & 255}.${i & 255}.9:${1000 + i % 1000}`;
      answers += rig.request(socketAddress(from), rig.writer(METHOD.binding)).length;
    }
    return answers;
  };
  assertEquals([flood(), rig.server.counters.overBudget], [totalBurst, totalBurst]);
  rig.advance(SECOND / 10);
  assertEquals(flood(), total / 10);
  // A relay that does not keep up has better things to do.
  rig.server.noteBacklog(true);
  rig.advance(SECOND / 10);
  assertEquals(flood(), total / 100);
  assertEquals([rig.server.allocationCount, rig.server.pollTimeout()], [0, Infinity]);
  rig.check();
});

Deno.test("An answer to a stranger is hardly longer than his question", () => {
  const rig = new ServerRig();
  for (const [name, make] of UNPROVEN) {
    const bytes = make(rig);
    rig.server.handleClientInput(rig.now, rig.wall, MALLORY, bytes, 0, bytes.length, {} as never);
    for (const answer of rig.takeDatagrams()) {
      // With the headers of Ethernet, IP and UDP, as it counts on the wire.
      const factor = (42 + answer.length) / (42 + bytes.length);
      assert(factor < 3, `${name}: ${factor}`);
    }
  }
});

function signed(rig: ServerRig, writer: StunWriter): Uint8Array {
  const credentials = rig.credentials();
  return writer.username(credentials.username).finish({ integrityKey: keyOf(credentials) });
}
