/**
 * `struct virtio_net_hdr`: what stands before every packet of a TUN device opened with
 * `IFF_VNET_HDR`, in both directions.
 *
 *     offset size field         host order, which is little-endian wherever Deno runs
 *          0    1 flags         NEEDS_CSUM, DATA_VALID
 *          1    1 gso_type      what the super-packet behind it is made of
 *          2    2 hdr_len       length of all headers, a hint from the kernel
 *          4    2 gso_size      bytes of payload in every segment but the last
 *          6    2 csum_start    where the transport header begins, counted from the packet
 *          8    2 csum_offset   where its checksum is, counted from there
 *
 * Spec: VIRTIO 1.2 §5.1.6, linux/virtio_net.h.
 * @module
 */

import { readU16le, writeU16le } from "../bytes/fields.ts";

/** Bytes of the header. */
export const VIRTIO_HEADER_LENGTH = 10;

/** The transport checksum holds the pseudo header's sum alone; who sends the packet completes it. */
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;

/** A single packet. */
export const VIRTIO_NET_HDR_GSO_NONE = 0;
/** TCP over IPv4. */
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
/** TCP over IPv6. */
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
/** UDP datagrams of equal size (USO), over either IP version. */
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
/** Set beside a TCP type where the first segment carries CWR. */
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

/** Reads `gso_size` of the header at `start`. */
export function virtioGsoSize(buf: Uint8Array, start: number): number {
  return readU16le(buf, start + 4);
}

/** Reads `csum_start` of the header at `start`. */
export function virtioChecksumStart(buf: Uint8Array, start: number): number {
  return readU16le(buf, start + 6);
}

/** Reads `csum_offset` of the header at `start`. */
export function virtioChecksumOffset(buf: Uint8Array, start: number): number {
  return readU16le(buf, start + 8);
}

/** Writes the header of a super-packet, to be segmented and its checksums completed by the kernel. */
export function writeVirtioHeader(
  buf: Uint8Array,
  start: number,
  gsoType: number,
  headerLength: number,
  gsoSize: number,
  checksumStart: number,
  checksumOffset: number,
): void {
  buf[start] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
  buf[start + 1] = gsoType;
  writeU16le(buf, start + 2, headerLength);
  writeU16le(buf, start + 4, gsoSize);
  writeU16le(buf, start + 6, checksumStart);
  writeU16le(buf, start + 8, checksumOffset);
}

/** Writes the header of a single packet whose checksums are complete, and not vouched for. */
export function writeEmptyVirtioHeader(buf: Uint8Array, start: number): void {
  for (let i = 0; i < VIRTIO_HEADER_LENGTH; i++) buf[start + i] = 0;
}
