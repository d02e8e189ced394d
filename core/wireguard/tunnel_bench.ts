/**
 * What WireGuard costs per packet of 1280 bytes beside the cipher (`core/crypto/aead_bench.ts`), and
 * what a whole handshake costs.
 * @module
 */

import { selectAead } from "../crypto/mod.ts";
import { socketAddress } from "../ip/mod.ts";
import { seededRandom } from "../testing/mod.ts";
import type { Millis } from "../units.ts";
import { WireGuardNode } from "./node.ts";
import { type WireGuardResult, WireGuardTunnel } from "./tunnel.ts";

const NOW = 1000 as Millis;
const STRIDE = 1312;
const PACKETS = 48;
const FROM = socketAddress("192.0.2.1:51820");

const aead = selectAead();
const plain = new Uint8Array(65_536);
const sealed = new Uint8Array(65_536);
const result: WireGuardResult = { code: "dropped", length: 0 };

function makeNode(seed: number): WireGuardNode {
  return new WireGuardNode({
    privateKey: seededRandom(seed)(32),
    aead,
    random: seededRandom(seed + 1),
    unixMillisAtZero: 1_700_000_000_000,
    handshakesPerSecond: Infinity,
  });
}

const [nodeA, nodeB] = [makeNode(1), makeNode(10)];
const a = new WireGuardTunnel({
  node: nodeA,
  remotePublicKey: nodeB.publicKey,
  initiates: true,
  now: NOW,
});
const b = new WireGuardTunnel({
  node: nodeB,
  remotePublicKey: nodeA.publicKey,
  initiates: false,
  now: NOW,
});

function handshake(): void {
  a.initiate(NOW, true);
  const initiation = a.pollTransmit()!;
  nodeB.identifyInitiation(NOW, FROM, initiation, 0, initiation.length);
  b.handle(NOW, initiation, 0, initiation.length, plain, 0, result);
  const response = b.pollTransmit()!;
  a.handle(NOW, response, 0, response.length, plain, 0, result);
  const keepalive = a.pollTransmit()!;
  b.handle(NOW, keepalive, 0, keepalive.length, plain, 0, result);
  if (result.code !== "keepalive") throw new Error(result.reason);
  while (a.pollEvent() !== undefined || b.pollEvent() !== undefined);
}

handshake();
let i = 0;

Deno.bench(`seal 1280 B, ${aead.name}`, () => {
  i = (i + 1) % PACKETS;
  a.seal(NOW, plain, i * STRIDE, i * STRIDE + 1280, sealed, i * STRIDE);
});

Deno.bench(`seal 1000 B with padding, ${aead.name}`, () => {
  i = (i + 1) % PACKETS;
  a.seal(NOW, plain, i * STRIDE, i * STRIDE + 1000, sealed, i * STRIDE);
});

Deno.bench(`seal and open 1280 B, ${aead.name}`, () => {
  i = (i + 1) % PACKETS;
  const at = i * STRIDE;
  a.seal(NOW, plain, at, at + 1280, sealed, at);
  b.handle(NOW, sealed, at, at + STRIDE, plain, at, result);
  if (result.code !== "data") throw new Error(result.reason);
});

Deno.bench("a handshake, both ends", handshake);
