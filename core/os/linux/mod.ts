/**
 * Linux by FFI: one small file per family of system calls.
 *
 * No pointer leaves this room; what does are numbers, bytes and the project's own types.
 * @module
 */

export { requireWritable } from "./access.ts";
export { canAdministrateNetwork, Capability, capabilityIn, hasCapability } from "./capabilities.ts";
export { bootTimeMs, sleptMs } from "./clocks.ts";
export {
  DBUS,
  type DbusMessage,
  DbusWriter,
  type OutgoingDbusMessage,
  takeMessage,
  type Taken,
  writeMessage,
} from "./dbus_message.ts";
export { type DialedSocket, Dialer, type DialHandlers, type DialOptions } from "./dialer.ts";
export { Epoll, type Interest } from "./epoll.ts";
export { Errno, errnoName, OsError } from "./errno.ts";
export { EventFd } from "./eventfd.ts";
export { closeFd, type Fd } from "./fd.ts";
export { GatherBatch } from "./gather_batch.ts";
export { raiseFileLimit } from "./limits.ts";
export { NetworkChanges } from "./network_changes.ts";
export { NfTables } from "./nf_tables.ts";
export {
  type NfAction,
  type NfChain,
  type NfFamily,
  type NfHook,
  type NfMatch,
  NfPriority,
  type NfRule,
  type NfTable,
} from "./nf_tables_codec.ts";
export { type Outcome, Rtnetlink } from "./rtnetlink.ts";
export {
  type InterfaceAddress,
  type Link,
  type LinkChange,
  MAIN_TABLE,
  type NetworkChange,
  type Route,
  type Rule,
} from "./rtnetlink_codec.ts";
export { parseResolvConf, type ResolvConf, toNameserver, withNameservers } from "./resolv_conf.ts";
export { ServiceManager } from "./sd_notify.ts";
export { networkNamespaceCookie } from "./network_namespace.ts";
export { Sysctls, type SysctlsOptions } from "./sysctl.ts";
export { MAX_PIPE_PACKET, ThreadPipe, ThreadPipeReader, ThreadPipeWriter } from "./thread_pipe.ts";
export { TUN_READ_SIZE, type TunCounters, TunDevice, TunWrite, VIRTIO_HEADER_SIZE } from "./tun.ts";
export { UdpSocket, type UdpSocketOptions } from "./udp.ts";
export { MAX_SEGMENTS, MAX_SEND_BYTES } from "./udp_constants.ts";
export { type ReceiveCounters, ReceiveSlots, SLOT_SIZE } from "./udp_receiver.ts";
export { DatagramSender, type SendCounters, SendResult, SendStructs } from "./udp_sender.ts";
export { readSockaddr, writeSockaddr } from "./socket_address.ts";
export { addressOf, copyMemory, Memory } from "./memory.ts";
export type {
  Family,
  IpAddress,
  Prefix,
  SocketAddress,
  SocketAddressCache,
} from "../../ip/address.ts";
export type { Brand } from "../../units.ts";
