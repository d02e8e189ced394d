/**
 * Linux by FFI: one small file per family of system calls.
 *
 * No pointer leaves this room; what does are numbers, bytes and the project's own types.
 * @module
 */

export { Epoll, type Interest } from "./epoll.ts";
export { Errno, errnoName, OsError } from "./errno.ts";
export { EventFd } from "./eventfd.ts";
export { closeFd, type Fd } from "./fd.ts";
export { GatherBatch } from "./gather_batch.ts";
export { TUN_READ_SIZE, type TunCounters, TunDevice, TunWrite, VIRTIO_HEADER_SIZE } from "./tun.ts";
export { UdpSocket, type UdpSocketOptions } from "./udp.ts";
export { MAX_SEGMENTS, MAX_SEND_BYTES } from "./udp_constants.ts";
export { type ReceiveCounters, SLOT_SIZE } from "./udp_receiver.ts";
export { type SendCounters, SendResult } from "./udp_sender.ts";
