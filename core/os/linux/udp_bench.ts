// Datagrams of 1200 bytes over the loopback, by the burst: one system call each, GSO, gathered GSO.

import { ip } from "../../ip/address.ts";
import { GatherBatch } from "./gather_batch.ts";
import { UdpSocket } from "./udp.ts";

const COUNT = 50;
const SIZE = 1200;
const address = ip("127.0.0.1");
const a = UdpSocket.open({ family: 4, address, port: 0, sendBuffer: 4 << 20 });
const b = UdpSocket.open({ family: 4, address, port: 0, receiveBuffer: 16 << 20 });
const data = new Uint8Array(COUNT * (SIZE + 4));
const batch = new GatherBatch(data);

function receiveAll(): void {
  for (let n = b.receive(); n > 0; n = b.receive()) b.from(0);
}

const options = { group: `${COUNT} datagrams, sent and received` };

Deno.bench("GSO", { ...options, baseline: true }, () => {
  a.send(undefined, b.bound, data, 0, COUNT * SIZE, SIZE, 0);
  receiveAll();
});

Deno.bench("GSO, gathered with four bytes skipped", options, () => {
  batch.clear();
  for (let i = 0; i < COUNT; i++) batch.add(i * (SIZE + 4) + 4, SIZE);
  a.sendGathered(undefined, b.bound, batch, 0);
  receiveAll();
});

Deno.bench("GSO, gathered with four bytes in front", options, () => {
  batch.clear();
  for (let i = 0; i < COUNT; i++) batch.addPrefixed(i, i * SIZE, SIZE);
  a.sendGathered(undefined, b.bound, batch, 0);
  receiveAll();
});

Deno.bench("one by one", options, () => {
  for (let i = 0; i < COUNT; i++) a.send(undefined, b.bound, data, i * SIZE, SIZE, 0, 0);
  receiveAll();
});
