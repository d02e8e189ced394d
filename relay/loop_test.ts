/** The loop with a real server on real sockets of this machine's loopback, turn by turn. */

import { assert, assertEquals } from "@std/assert";
import { ip, prefix, type SocketAddress, socketAddress } from "@firezone/core/ip";
import { EventFd, SLOT_SIZE, UdpSocket } from "@firezone/core/os/linux";
import { longTermKey, METHOD, parseStunMessage, StunWriter } from "@firezone/core/stun";
import { seededRandom } from "@firezone/core/testing";
import { relayCredentials, toChannelNumber, writeChannelDataHeader } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { RelayLoop } from "./loop.ts";
import { LOOPBACK } from "./peer_policy.ts";
import type { RelayCommand } from "./allocator.ts";
import { RelayServer, type RelayServerOptions } from "./server.ts";

const HERE = ip("127.0.0.1");
const SECRET = "secret";
const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test({
  name: "RelayLoop carries datagrams without bytes both ways, in order with others",
  ...onLinux,
  fn() {
    using rig = new Rig();
    const [client, peer] = [rig.client(), rig.socket()];
    const relayed = client.allocate();
    client.bind(0x4000, peer.bound);
    for (const length of [3, 0, 2, 0]) client.sendData(0x4000, new Uint8Array(length));
    rig.turn();
    assertEquals(receive(peer).map((d) => d.length), [3, 0, 2, 0]);
    for (const length of [0, 1, 0]) send(peer, relayed, new Uint8Array(length));
    rig.turn();
    assertEquals(client.receiveData().map((d) => d.length), [0, 1, 0]);
  },
});

Deno.test({
  name: "RelayLoop serves a quiet socket within a turn of a busy one's",
  ...onLinux,
  fn() {
    using rig = new Rig();
    const [busy, quiet, peer] = [rig.client("busy"), rig.client("quiet"), rig.socket()];
    const [busyRelayed, quietRelayed] = [busy.allocate(), quiet.allocate()];
    busy.bind(0x4000, peer.bound);
    quiet.bind(0x4000, peer.bound);
    // Different lengths keep the kernel from gluing them together.
    for (let i = 0; i < 600; i++) send(peer, busyRelayed, new Uint8Array(1 + i % 2 * 50));
    send(peer, quietRelayed, new Uint8Array(7));
    quiet.ask(METHOD.binding);
    rig.turn();
    assertEquals(quiet.receiveData().map((d) => d.length), [7]);
    const [first] = [busy.receiveData().length];
    assert(first > 0 && first < 600, `${first} of the busy one's`);
    rig.turns(20);
    assertEquals(first + busy.receiveData().length, 600);
  },
});

Deno.test({
  name: "RelayLoop ends a turn after so much work, reads clients in each, and forgets nobody",
  ...onLinux,
  fn() {
    using rig = new Rig();
    const peer = rig.socket();
    const clients = Array.from({ length: 24 }, (_, i) => rig.client(`u${i}`));
    const relayed = clients.map((client) => client.allocate());
    for (const client of clients) client.bind(0x4000, peer.bound);
    // Glued together by the kernel: each message is many datagrams.
    const train = new Uint8Array(64 * 100);
    for (const address of relayed) {
      for (let i = 0; i < 4; i++) peer.send(undefined, address, train, 0, train.length, 100, 0);
    }
    rig.turn();
    const served = () => clients.filter((client) => client.received > 0).length;
    for (const client of clients) client.receiveData();
    assert(rig.wasExhausted && served() < clients.length, `${served()} in the first turn`);
    // In the next turn, and not only when all allocations have had theirs, a client is heard.
    const asker = clients[0]!;
    asker.ask(METHOD.binding);
    rig.turn();
    assertEquals(asker.answers().length, 1);
    rig.turns(30);
    for (const client of clients) {
      client.receiveData();
      assertEquals(client.received, 4 * 64);
    }
    assert(!rig.wasExhausted);
  },
});

Deno.test({
  name: "RelayLoop counts what the system refuses to send and goes on",
  ...onLinux,
  fn() {
    using rig = new Rig({ allowedPeers: [prefix("0.0.0.0/0"), ...LOOPBACK] });
    const [client, peer] = [rig.client(), rig.socket()];
    client.allocate();
    client.bind(0x4000, socketAddress("192.0.2.1:9"));
    client.bind(0x4001, peer.bound);
    // A socket that is bound to loopback reaches nobody else.
    for (let i = 0; i < 3; i++) client.sendData(0x4000, new Uint8Array(1 + i));
    client.sendData(0x4001, new Uint8Array(9));
    rig.turn();
    assertEquals(rig.loop.drops.refused, 3);
    assertEquals(receive(peer).map((d) => d.length), [9]);
  },
});

Deno.test({
  name: "RelayLoop counts data that a ChannelData header makes too long",
  ...onLinux,
  fn() {
    using rig = new Rig();
    const [client, peer] = [rig.client(), rig.socket()];
    const relayed = client.allocate();
    client.bind(0x4000, peer.bound);
    send(peer, relayed, new Uint8Array(65_507));
    send(peer, relayed, new Uint8Array(65_503));
    rig.turns(3);
    assertEquals(client.receiveData().map((d) => d.length), [65_503]);
    assertEquals(rig.loop.drops.oversized, 1);
    // The other way there is room.
    client.sendData(0x4000, new Uint8Array(65_503));
    rig.turns(3);
    assertEquals(receive(peer).map((d) => d.length), [65_503]);
  },
});

Deno.test({
  name: "RelayLoop refuses with 508 what it cannot open, and serves all others",
  ...onLinux,
  fn() {
    using taken = UdpSocket.open({ family: 4, address: HERE, port: 0 });
    const { localPort } = taken;
    using rig = new Rig({ ports: { lowest: localPort, highest: localPort } });
    const client = rig.client();
    client.ask(METHOD.allocate, (w) => w.requestedTransport(17));
    rig.turn();
    assertEquals(client.answers()[0]?.errorCode?.code, 508);
    assertEquals([rig.allocated, rig.ended], [[], []]);
    taken.close();
    assertEquals(client.allocate().port, localPort);
  },
});

Deno.test({
  name: "RelayLoop opens sockets before the answer, closes them with the allocation, tells both",
  ...onLinux,
  fn() {
    using rig = new Rig();
    const client = rig.client("ann");
    const { port } = client.allocate();
    const mayOpen = () => {
      try {
        UdpSocket.open({ family: 4, address: HERE, port }).close();
        return true;
      } catch {
        return false;
      }
    };
    assertEquals([mayOpen(), rig.allocated.length, rig.ended.length], [false, 1, 0]);
    assertEquals([rig.allocated[0]?.port, rig.allocated[0]?.soleOf], [port, client.username]);
    client.ask(METHOD.refresh, (w) => w.lifetime(0));
    rig.turn();
    assertEquals([mayOpen(), rig.ended[0]?.id], [true, rig.allocated[0]?.id]);
  },
});

Deno.test({
  name: "RelayLoop without siblings keeps what clients sent before it served",
  ...onLinux,
  fn() {
    using rig = new Rig({}, false);
    const client = rig.client();
    client.ask(METHOD.binding);
    rig.loop.serve();
    rig.turn();
    assertEquals(client.answers().length, 1);
  },
});

/** A relay, clients and peers, all on this thread. */
class Rig {
  readonly loop: RelayLoop;
  readonly server: RelayServer;
  readonly allocated: RelayCommand[] = [];
  readonly ended: RelayCommand[] = [];
  readonly address: SocketAddress;
  wasExhausted = false;
  readonly #sockets: UdpSocket[] = [];
  readonly #control = EventFd.open();

  constructor(options: Partial<RelayServerOptions> = {}, serves = true) {
    this.server = new RelayServer({
      publicAddresses: { v4: HERE },
      stampSecret: SECRET,
      random: seededRandom(3),
      ports: { lowest: 62_000, highest: 62_999 },
      allowedPeers: LOOPBACK,
      ...options,
    });
    const free = UdpSocket.open({ family: 4, address: HERE, port: 0 });
    this.address = free.bound;
    free.close();
    const { server } = this;
    this.loop = new RelayLoop({
      server,
      bind: new Map([[4, HERE]]),
      sendFrom: new Map(),
      publicAddresses: new Map([[4, HERE]]),
      listenPort: this.address.port,
      siblings: undefined,
      controlFd: this.#control.fd,
      onControl: () => this.#control.drain(),
      onAllocated: (command) => this.allocated.push(command),
      onEnded: (command) => this.ended.push(command),
      onTurn: (_durationMs, isExhausted) => this.wasExhausted = isExhausted,
    });
    if (serves) this.loop.serve();
  }

  /** One turn, even if there is nothing to do. */
  turn(): void {
    this.#control.signal();
    this.loop.turn();
  }

  turns(count: number): void {
    for (let i = 0; i < count; i++) this.turn();
  }

  socket(): UdpSocket {
    const socket = UdpSocket.open({ family: 4, address: HERE, port: 0, receiveBuffer: 8 << 20 });
    this.#sockets.push(socket);
    return socket;
  }

  client(name = "user"): Client {
    return new Client(this, this.socket(), name);
  }

  [Symbol.dispose](): void {
    this.loop.close();
    for (const socket of this.#sockets) socket.close();
    this.#control.close();
  }
}

class Client {
  readonly username: string;
  /** Datagrams of application data so far. */
  received = 0;
  readonly #rig: Rig;
  readonly #socket: UdpSocket;
  readonly #key: Uint8Array;
  readonly #random = seededRandom(9);
  #nonce: string | undefined;
  readonly #data: Uint8Array[] = [];
  readonly #answers: ReturnType<typeof parseStunMessage>[] = [];

  constructor(rig: Rig, socket: UdpSocket, name: string) {
    this.#rig = rig;
    this.#socket = socket;
    const credentials = relayCredentials(2_145_916_800 as UnixSeconds, SECRET, name);
    this.username = credentials.username;
    this.#key = longTermKey(credentials.username, credentials.realm, credentials.password);
  }

  /** Sends a request, which is answered in the next turn. */
  ask(method: number, fill: (writer: StunWriter) => StunWriter = (w) => w): void {
    if (method !== METHOD.binding && this.#nonce === undefined) {
      send(this.#socket, this.#rig.address, this.#writer(METHOD.refresh).finish());
      this.#rig.turn();
      this.#nonce = this.answers()[0]!.nonce;
    }
    const writer = fill(this.#writer(method));
    if (method === METHOD.binding) {
      return send(this.#socket, this.#rig.address, writer.finish());
    }
    writer.username(this.username).realm("firezone").nonce(this.#nonce!);
    send(this.#socket, this.#rig.address, writer.finish({ integrityKey: this.#key }));
  }

  allocate(): SocketAddress {
    this.ask(METHOD.allocate, (w) => w.requestedTransport(17));
    this.#rig.turn();
    return this.answers()[0]!.relayedAddresses[0]!;
  }

  bind(channel: number, peer: SocketAddress): void {
    this.ask(METHOD.channelBind, (w) => w.channelNumber(channel).peerAddress(peer));
    this.#rig.turn();
    assertEquals(this.answers()[0]!.class, "success");
  }

  sendData(channel: number, bytes: Uint8Array): void {
    const framed = new Uint8Array(4 + bytes.length);
    framed.set(bytes, writeChannelDataHeader(framed, 0, toChannelNumber(channel)!, bytes.length));
    send(this.#socket, this.#rig.address, framed);
  }

  answers() {
    this.#receive();
    return this.#answers.splice(0).map((answer) => answer!);
  }

  /** Application data since the last call. */
  receiveData(): Uint8Array[] {
    this.#receive();
    return this.#data.splice(0);
  }

  #writer(method: number): StunWriter {
    const id = Array.from(this.#random(12), (b) => b.toString(16).padStart(2, "0")).join("");
    return new StunWriter("request", method, id);
  }

  #receive(): void {
    for (const datagram of receive(this.#socket)) {
      if (datagram[0]! < 0x40) {
        this.#answers.push(parseStunMessage(datagram, 0, datagram.length));
        continue;
      }
      this.received++;
      this.#data.push(datagram.subarray(4));
    }
  }
}

function send(socket: UdpSocket, to: SocketAddress, bytes: Uint8Array): void {
  socket.send(undefined, to, bytes, 0, bytes.length, 0, 0);
}

function receive(socket: UdpSocket): Uint8Array[] {
  const datagrams: Uint8Array[] = [];
  for (let n; (n = socket.receive()) > 0;) {
    for (let m = 0; m < n; m++) {
      const start = socket.start(m);
      const end = Math.min(start + socket.length(m), start + SLOT_SIZE);
      let at = start;
      do {
        datagrams.push(socket.buffer.slice(at, Math.min(end, at + socket.segmentSize(m))));
        at += socket.segmentSize(m);
      } while (at < end);
    }
  }
  return datagrams;
}
