/**
 * The server against a model that is too simple to be wrong: a list of allocations, searched from
 * end to end, without indices, heaps or queues.
 */

import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { type Family, type SocketAddress, socketAddress } from "@firezone/core/ip";
import { METHOD } from "@firezone/core/stun";
import { ALICE, BOB, codeOf, PEER, PEER6, SECOND, ServerRig } from "./testing/server_rig.ts";

const CLIENTS = [ALICE, BOB, socketAddress("[2001:db8:5::5]:1")];
const USERS = ["ann", "ben", "cal"];
const PEERS = [PEER, PEER6, BOB, socketAddress("127.0.0.1:53")];
const NUMBERS = [0x4000, 0x4001, 0x4fff];
const PORTS = { lowest: 50_000, highest: 50_001 };

const index = (list: readonly unknown[]) => fc.nat(list.length - 1);
const STEP = fc.oneof(
  fc.record({
    tag: fc.constant("allocate" as const),
    client: index(CLIENTS),
    user: index(USERS),
    families: fc.constantFrom<readonly Family[]>([4], [6], [4, 6]),
    lifetime: fc.constantFrom(undefined, 0, 1, 700, 5000),
  }),
  fc.record({
    tag: fc.constant("refresh" as const),
    client: index(CLIENTS),
    user: index(USERS),
    lifetime: fc.constantFrom(undefined, 0, 1, 700, 5000),
  }),
  fc.record({
    tag: fc.constant("bind" as const),
    client: index(CLIENTS),
    user: index(USERS),
    number: index(NUMBERS),
    peer: index(PEERS),
  }),
  fc.record({
    tag: fc.constant("wait" as const),
    ms: fc.constantFrom(1, 1000, 299_999, 300_000, 599_999, 600_000, 700_000),
  }),
);

Deno.test("Any series of requests has the outcome that the model has, and nothing more", () => {
  fc.assert(
    fc.property(fc.array(STEP, { maxLength: 50 }), (steps) => {
      const rig = new ServerRig({ ports: PORTS });
      const model = new Model();
      for (const step of steps) {
        const expected = model.take(step);
        const answers = act(rig, step);
        assertEquals(answers, expected.code === undefined ? [] : [expected.code]);
        const commands = rig.takeCommands();
        // What ends at the same time ends in any order.
        const inOrder = (said: unknown[]) => step.tag === "wait" ? said.map(String).sort() : said;
        assertEquals(inOrder(commands.map((c) => [c.tag, c.families])), inOrder(expected.commands));
        model.learnPorts(commands.filter((c) => c.tag === "create-allocation").map((c) => c.port));
        assertEquals(rig.server.allocationCount, model.allocations.length);
        assertEquals(rig.server.pollTimeout() - rig.now, model.nextDeadline - model.now);
        compareData(rig, model);
        rig.check();
      }
    }),
    { numRuns: 150 },
  );
});

type Step = typeof STEP extends fc.Arbitrary<infer T> ? T : never;
type Outcome = { code: number | undefined; commands: unknown[] };

function act(rig: ServerRig, step: Step): number[] {
  if (step.tag === "wait") {
    rig.advance(step.ms);
    return rig.takeAnswers().map(codeOf);
  }
  const client = CLIENTS[step.client]!;
  const credentials = rig.credentials(USERS[step.user]);
  let writer;
  if (step.tag === "allocate") {
    writer = rig.allocateWriter();
    if (step.families.length === 2) writer.additionalAddressFamily(6);
    else writer.requestedAddressFamily(step.families[0]!);
  } else if (step.tag === "refresh") writer = rig.writer(METHOD.refresh);
  else {
    writer = rig.writer(METHOD.channelBind).channelNumber(NUMBERS[step.number]!)
      .peerAddress(PEERS[step.peer]!);
  }
  if ("lifetime" in step && step.lifetime !== undefined) writer.lifetime(step.lifetime);
  return rig.authenticated(client, writer, credentials).map(codeOf);
}

/** Every peer to every port, every client through every number: what comes of it is what is bound. */
function compareData(rig: ServerRig, model: Model): void {
  for (const client of CLIENTS) {
    const allocation = model.allocations.find((a) => a.client === client);
    for (const number of NUMBERS) {
      const channel = allocation?.channels.find((c) => c.number === number && c.end > model.now);
      const up = rig.fromClient(client, number, 1);
      assertEquals(
        up && [up.direction, up.destination.key, up.allocationPort],
        channel && ["peer", channel.peer.key, allocation!.port],
      );
    }
  }
  for (let port = PORTS.lowest; port <= PORTS.highest; port++) {
    const allocation = model.allocations.find((a) => a.port === port);
    for (const peer of PEERS) {
      const channel = allocation?.channels.find((c) => c.peer === peer && c.end > model.now);
      const down = rig.fromPeer(peer, port, new Uint8Array(1));
      assertEquals(
        down && [down.direction, down.destination.key, down.channel as number],
        channel && ["client", allocation!.client.key, channel.number],
      );
    }
  }
}

interface ModelChannel {
  readonly number: number;
  readonly peer: SocketAddress;
  /** When it admits no traffic any more; forgotten 300 s later. */
  end: number;
}

interface ModelAllocation {
  readonly client: SocketAddress;
  readonly user: string;
  readonly families: readonly Family[];
  port: number | undefined;
  end: number;
  channels: ModelChannel[];
}

class Model {
  now = 0;
  allocations: ModelAllocation[] = [];

  get nextDeadline(): number {
    const ends = this.allocations.flatMap((a) => [
      a.end,
      ...a.channels.map((c) => c.end > this.now ? c.end : c.end + 300 * SECOND),
    ]);
    return Math.min(Infinity, ...ends);
  }

  take(step: Step): Outcome {
    if (step.tag === "wait") return { code: undefined, commands: this.#wait(step.ms) };
    const client = CLIENTS[step.client]!;
    const user = USERS[step.user]!;
    const own = this.allocations.find((a) => a.client === client);
    const fails = (code: number) => ({ code, commands: [] });
    if (step.tag === "allocate") {
      if (own) return fails(437);
      const commands = this.#free(this.allocations.find((a) => a.user === user));
      if (this.allocations.length > PORTS.highest - PORTS.lowest) return { code: 508, commands };
      const { families } = step;
      const end = this.now + granted(step.lifetime);
      this.allocations.push({ client, user, families, port: undefined, end, channels: [] });
      return { code: 0, commands: [...commands, ["create-allocation", families]] };
    }
    if (!own) return fails(437);
    if (step.tag === "refresh") {
      if (step.lifetime === 0) return { code: 0, commands: this.#free(own) };
      if (own.user !== user) return fails(441);
      own.end = this.now + granted(step.lifetime);
      return fails(0);
    }
    if (own.user !== user) return fails(441);
    const [number, peer] = [NUMBERS[step.number]!, PEERS[step.peer]!];
    if (!own.families.includes(peer.family)) return fails(443);
    if (peer.ip.text === "127.0.0.1") return fails(403);
    const tied = own.channels.filter((c) => c.number === number || c.peer === peer);
    if (tied.some((c) => c.number !== number || c.peer !== peer)) return fails(400);
    own.channels = own.channels.filter((c) => !tied.includes(c));
    own.channels.push({ number, peer, end: this.now + 600 * SECOND });
    return fails(0);
  }

  /** The server draws the ports, so the model is told. */
  learnPorts(ports: readonly number[]): void {
    for (const port of ports) this.allocations.find((a) => a.port === undefined)!.port = port;
  }

  #wait(ms: number): unknown[] {
    this.now += ms;
    const over = this.allocations.filter((a) => a.end <= this.now).sort((a, b) => a.end - b.end);
    for (const a of this.allocations) {
      a.channels = a.channels.filter((c) => c.end + 300 * SECOND > this.now);
    }
    return over.flatMap((a) => this.#free(a));
  }

  #free(allocation: ModelAllocation | undefined): unknown[] {
    if (allocation === undefined) return [];
    this.allocations = this.allocations.filter((a) => a !== allocation);
    return [["free-allocation", allocation.families]];
  }
}

function granted(seconds: number | undefined): number {
  return Math.min(3600, Math.max(600, seconds ?? 600)) * SECOND;
}
