import { assert, assertEquals } from "@std/assert";
import { METHOD, StunWriter } from "@firezone/core/stun";
import { relayCredentials } from "@firezone/core/turn";
import { after, type UnixSeconds } from "@firezone/core/units";
import { MAX_BIND_ATTEMPTS } from "./allocator.ts";
import type { RelayServerOptions } from "./server.ts";
import {
  ALICE,
  BOB,
  codeOf,
  keyOf,
  PEER,
  PUBLIC,
  SECOND,
  SECRET,
  ServerRig,
  withAttribute,
} from "./testing/server_rig.ts";

Deno.test("ALLOCATE is answered when its socket is open, and signed", () => {
  const rig = new ServerRig({}, "later");
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
  const rig = new ServerRig({}, "later");
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
  const rig = new ServerRig();
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
    const rig = new ServerRig({ publicAddresses });
    const [answer] = rig.authenticated(ALICE, ask(rig.allocateWriter()));
    const granted = answer!.relayedAddresses;
    assertEquals(answer!.errorCode?.code ?? granted.map((a) => a.family), expected);
    assert(granted.every((a) => a.port === granted[0]!.port), "one port in both families");
  }
});

Deno.test("ALLOCATE refuses what is not understood or not offered", () => {
  const rig = new ServerRig();
  const bare = () => rig.writer(METHOD.allocate);
  assertEquals(rig.request(ALICE, bare())[0]!.errorCode?.code, 400, "no transport");
  const [tcp] = rig.authenticated(ALICE, bare().requestedTransport(6));
  assertEquals(tcp!.errorCode?.code, 442);
  const { username, ...rest } = rig.credentials();
  const asked = bare().requestedTransport(17).username(username).nonce(rig.nonce(ALICE));
  const key = keyOf({ username, ...rest });
  const [dontFragment] = rig.datagram(ALICE, withAttribute(0x001a, asked, key));
  assertEquals(dontFragment!.errorCode?.code, 420);
  assert(dontFragment!.verifyIntegrity(key));
  const binding = () => rig.writer(METHOD.binding);
  assertEquals(rig.datagram(ALICE, withAttribute(0x0003, binding()))[0]!.errorCode?.code, 420);
  const shortLifetime = withAttribute(0x000d, binding());
  assertEquals(rig.datagram(ALICE, shortLifetime)[0]!.errorCode?.code, 400);
  const unknownMethod = rig.writer(0x00a);
  assertEquals(rig.request(ALICE, unknownMethod)[0]!.errorCode?.code, 400);
});

Deno.test("All ports in use is 508, after the user's own old allocation was freed", () => {
  const rig = new ServerRig({ ports: { lowest: 50_000, highest: 50_000 } });
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
  const rig = new ServerRig();
  rig.allocate(ALICE);
  rig.bind(ALICE, 0x4000, PEER);
  rig.allocate(BOB);
  assertEquals(rig.server.allocationCount, 1);
  assertEquals(rig.refresh(ALICE)!.errorCode?.code, 437);
  assertEquals(rig.fromClient(ALICE, 0x4000, 1), undefined);
  assertEquals(rig.server.channelCount, 0);

  const slow = new ServerRig({}, "later");
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
  const rig = new ServerRig({ sharedUsernames: [username] });
  rig.allocate(ALICE, rig.credentials("shared"));
  rig.allocate(BOB, rig.credentials("shared"));
  assertEquals(rig.server.allocationCount, 2);
  rig.refresh(ALICE, 0);
  assertEquals(rig.refresh(BOB)!.class, "success");
});

Deno.test("REFRESH moves the end of an allocation; lifetime 0 ends it at once", () => {
  const rig = new ServerRig();
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
  const rig = new ServerRig();
  rig.allocate(ALICE);
  rig.bind(ALICE, 0x4000, PEER);
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

Deno.test("EVEN-PORT gets an even port; a pair of ports is not to be had", () => {
  const rig = new ServerRig();
  const { username } = rig.credentials();
  const key = keyOf(rig.credentials());
  const asked = () =>
    rig.writer(METHOD.allocate).requestedTransport(17).username(username)
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
  const rig = new ServerRig();
  const writer = () => rig.writer(METHOD.createPermission);
  assertEquals(rig.request(ALICE, writer())[0]!.errorCode?.code, 401);
  assertEquals(rig.authenticated(ALICE, writer())[0]!.class, "success");
});

Deno.test("REFRESH with a family that the allocation lacks gets 443, with one that it has succeeds", () => {
  const rig = new ServerRig();
  rig.authenticated(ALICE, rig.allocateWriter());
  const refresh = (family: 4 | 6) =>
    codeOf(rig.authenticated(ALICE, rig.writer(METHOD.refresh).requestedAddressFamily(family))[0]!);
  assertEquals([refresh(4), refresh(6)], [0, 443]);
});

Deno.test("A dual allocation is opened, answered and closed as one", () => {
  const rig = new ServerRig();
  const credentials = rig.credentials("ann");
  const writer = rig.allocateWriter().additionalAddressFamily(6);
  const [answer] = rig.authenticated(ALICE, writer, credentials);
  const [four, six] = answer!.relayedAddresses;
  assertEquals([four!.ip.text, six!.ip.text], [PUBLIC.v4.text, PUBLIC.v6.text]);
  assertEquals(four!.port, six!.port);
  const common = { port: four!.port, families: [4, 6], soleOf: credentials.username };
  assertEquals(rig.takeCommands(), [{ tag: "create-allocation", id: 1, ...common }] as never);
  rig.refresh(ALICE, 0);
  assertEquals(rig.takeCommands(), [{ tag: "free-allocation", id: 1, ...common }] as never);
  assertEquals([rig.takeCommands(), rig.takeAnswers()], [[], []]);
});

Deno.test("A user's old allocation is closed before the new one is opened, and everything said once", () => {
  const rig = new ServerRig();
  const first = rig.allocate(ALICE);
  rig.bind(ALICE, 0x4000, PEER);
  rig.takeCommands();
  const second = rig.allocate(BOB);
  assertEquals(rig.takeCommands().map(({ tag, id, port }) => [tag, id, port]), [
    ["free-allocation", 1, first],
    ["create-allocation", 2, second],
  ]);
  rig.advance(600 * SECOND);
  assertEquals(rig.takeCommands().map(({ tag, id }) => [tag, id]), [["free-allocation", 2]]);
  rig.advance(10_000 * SECOND);
  assertEquals([rig.takeCommands(), rig.takeAnswers()], [[], []]);
  assertEquals(rig.server.pollTimeout(), Infinity);
});

Deno.test("Nothing is due before the announced deadline, and what is due is done", () => {
  const rig = new ServerRig();
  rig.allocate(ALICE);
  rig.refresh(ALICE, 3600);
  rig.bind(ALICE, 0x4000, PEER);
  rig.takeCommands();
  const start = rig.now;
  const deadlines: number[] = [];
  while (rig.server.pollTimeout() !== Infinity) {
    const due = rig.server.pollTimeout();
    deadlines.push(due - start);
    rig.advance(due - rig.now - 1);
    assertEquals(rig.server.pollTimeout(), due, "too early");
    rig.advance(1);
    assert(rig.server.pollTimeout() > due);
  }
  assertEquals(deadlines, [600 * SECOND, 900 * SECOND, 3600 * SECOND]);
});

Deno.test("Freeing a port makes it good for the next client at once", () => {
  const rig = new ServerRig({ ports: { lowest: 50_000, highest: 50_000 } });
  for (let i = 0; i < 5; i++) {
    assertEquals(rig.allocate(ALICE, rig.credentials(`user${i}`)), 50_000);
    rig.refresh(ALICE, 0);
    rig.check();
  }
});

Deno.test("A superseded allocation is closed, but not one that is newer than the order", () => {
  const rig = new ServerRig();
  const { username } = rig.credentials();
  rig.allocate(ALICE);
  rig.takeCommands();
  rig.server.handleSuperseded(rig.now, 99, username);
  rig.server.handleSuperseded(rig.now, 1, "somebody else");
  assertEquals(rig.takeCommands(), []);
  rig.allocate(BOB);
  rig.server.handleSuperseded(rig.now, 1, username);
  assertEquals(rig.takeCommands().map((c) => c.tag), ["free-allocation", "create-allocation"]);
  rig.server.handleSuperseded(rig.now, 2, username);
  assertEquals(rig.takeCommands().map(({ tag, id }) => [tag, id]), [["free-allocation", 2]]);
  assertEquals([rig.server.allocationCount, rig.server.pollTimeout()], [0, Infinity]);
  rig.check();
});
