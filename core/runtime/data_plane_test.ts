import { assertEquals } from "@std/assert";
import { ECN, ecn, ip, setEcn, SocketAddress } from "../ip/mod.ts";
import { EventFd, type TunDevice, TunWrite, UdpSocket } from "../os/linux/mod.ts";
import type { DatagramBatch, InboundPackets, Transmit } from "../transmit.ts";
import { requires } from "../../tests/requirements.ts";
import type { Millis } from "../units.ts";
import { DataPlane, type DataPlaneState } from "./data_plane.ts";

const VIRTIO = 10;
const LOOPBACK = ip("127.0.0.1");

Deno.test("DataPlane carries ECN out with the packet, and brings back what routers marked", {
  ...requires("root", "linux"),
}, () => {
  for (const outgoing of [ECN.notCapable, ECN.capable1, ECN.capable0, ECN.congestion]) {
    const { sent } = turn(packet(outgoing), packet(ECN.capable0), ECN.notCapable);
    assertEquals(sent, outgoing);
  }
  const marked = turn(packet(0), packet(ECN.capable0), ECN.congestion);
  assertEquals(marked.received.map((one) => ecn(one, 0)), [ECN.congestion]);
  const cleared = turn(packet(0), packet(ECN.capable0), ECN.notCapable);
  assertEquals(cleared.received.map((one) => ecn(one, 0)), [ECN.capable0]);
});

Deno.test("DataPlane writes into a TUN that was full, in order", requires("root", "linux"), () => {
  const { received } = turn(packet(0), packet(0), 0, 5);
  assertEquals(received.length, 1);
});

Deno.test("DataPlane sends what waited before what comes after it in the same turn", {
  ...requires("root", "linux"),
}, () => {
  using peer = UdpSocket.open({
    family: 4,
    address: LOOPBACK,
    port: 0,
    receiveOffload: false,
  });
  using control = EventFd.open();
  control.signal(); // first, so it is also what the loop learns of first
  const tun = new FakeTun(packet(0), 0);
  const transmits: Transmit[] = [];
  const state: DataPlaneState = {
    handleTunPacket: (_now, buf, start, end, batch) => {
      batch.buffer.set(buf.subarray(start, end), batch.reserve(undefined, peer.bound, end - start));
      batch.commit(end - start);
      plane.stop();
    },
    handleDatagram: () => {},
    handleTimeout: () => {},
    pollTimeout: () => 0 as Millis,
    pollTransmit: () => transmits.shift(),
    pollPacket: () => undefined,
  };
  const plane = new DataPlane({
    state,
    tun: tun as unknown as TunDevice,
    controlFd: control.fd,
    onControl: () => {
      control.drain();
      const payload = new TextEncoder().encode("waited");
      transmits.push({ source: undefined, destination: peer.bound, payload });
    },
    onTurn: () => {},
  });
  plane.run();
  tun.close();
  const lengths: number[] = [];
  for (let n; (n = peer.receive()) > 0;) for (let m = 0; m < n; m++) lengths.push(peer.length(m));
  assertEquals(lengths, ["waited".length, packet(0).length]);
});

/**
 * Lets a plane send one packet from TUN to a peer, which then sends a datagram with `outer` in its
 * ECN field. The machine makes `incoming` of that datagram.
 */
function turn(outgoing: Uint8Array, incoming: Uint8Array, outer: number, fullFor = 0) {
  using peer = UdpSocket.open({ family: 4, address: LOOPBACK, port: 0 });
  using control = EventFd.open();
  const tun = new FakeTun(outgoing, fullFor);
  const received: Uint8Array[] = [];
  tun.onWrite = (bytes) => {
    received.push(bytes);
    plane.stop();
  };
  let sent = -1;
  const state: DataPlaneState = {
    handleTunPacket(_now, buf, start, end, batch: DatagramBatch) {
      const at = batch.reserve(undefined, peer.bound, end - start, ecn(buf, start));
      batch.buffer.set(buf.subarray(start, end), at);
      batch.commit(end - start);
    },
    handleDatagram(_now, _local, _from, _buf, _start, _end, packets: InboundPackets) {
      packets.push(incoming.slice(), 0, incoming.length);
    },
    handleTimeout() {
      if (sent >= 0 || peer.receive() === 0) return;
      sent = peer.ecn(0);
      const to = new SocketAddress(LOOPBACK, plane.ports.v4!);
      peer.send(undefined, to, new Uint8Array(100), 0, 100, 0, outer);
    },
    pollTimeout: () => 0 as Millis,
    pollTransmit: () => undefined,
    pollPacket: () => undefined,
  };
  const plane = new DataPlane({
    state,
    tun: tun as unknown as TunDevice,
    controlFd: control.fd,
    onControl: () => {},
    onTurn: () => {},
  });
  plane.run();
  tun.close();
  return { sent, received };
}

/** A device with one packet to read, which takes no writes for a while. */
class FakeTun {
  readonly #event = EventFd.open();
  readonly fd = this.#event.fd;
  readonly udpSegmentation = false;
  onWrite: (packet: Uint8Array) => void = () => {};
  #packet: Uint8Array | undefined;
  #fullFor: number;

  constructor(packet: Uint8Array, fullFor: number) {
    this.#packet = packet;
    this.#fullFor = fullFor;
    this.#event.signal();
  }

  read(buf: Uint8Array): number {
    const packet = this.#packet;
    if (packet === undefined) return 0;
    this.#packet = undefined;
    buf.fill(0, 0, VIRTIO);
    buf.set(packet, VIRTIO);
    return VIRTIO + packet.length;
  }

  write(buf: Uint8Array, start: number, length: number): TunWrite {
    if (this.#fullFor-- > 0) return TunWrite.WouldBlock;
    this.onWrite(buf.slice(start + VIRTIO, start + length));
    return TunWrite.Written;
  }

  close(): void {
    this.#event.close();
  }
}

/** An IPv4 packet of a protocol that nothing looks into. */
function packet(field: number): Uint8Array {
  const bytes = new Uint8Array(40);
  bytes.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 253]);
  setEcn(bytes, 0, field);
  return bytes;
}
