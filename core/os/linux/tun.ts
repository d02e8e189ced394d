/**
 * TUN devices: the kernel's IP packets in user space, up to 64 KiB at a time.
 *
 * Every read and write carries a virtio-net header of ten bytes in front of the packet, so TCP and
 * UDP super-packets and unfinished checksums pass in both directions (`core/ip` cuts and glues them).
 *
 *     struct virtio_net_hdr (linux/virtio_net.h), 10 bytes, host order
 *        0  1  flags        1: checksum unfinished   2: checksum valid
 *        1  1  gso_type     0 none, 1 TCPv4, 4 TCPv6, 5 UDP (both families)
 *        2  2  hdr_len      headers' length, a hint
 *        4  2  gso_size     payload of each segment
 *        6  2  csum_start   from the packet's start
 *        8  2  csum_offset  from csum_start
 *
 * Owns: the descriptor; the device lives as long. Does not own: addresses, MTU and routes, see
 * `rtnetlink.ts`.
 * @module
 */

import { Errno, OsError, osError } from "./errno.ts";
import { closeFd, type Fd } from "./fd.ts";
import { cString, errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const TUN_DIRECTORY = "/dev/net";
const TUN_PATH = "/dev/net/tun";
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const S_IFCHR = 0o020000;
const TUN_DEVICE_NUMBER = 10 << 8 | 200; // makedev(10, 200), for numbers below 256

const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;

const IFNAMSIZ = 16;

/** Bytes of the virtio header in front of every packet. */
export const VIRTIO_HEADER_SIZE = 10;
/** Room that holds whatever a read may bring: header and the largest IP packet. */
export const TUN_READ_SIZE: number = VIRTIO_HEADER_SIZE + 65_535;

/** How a write into the device went. */
export const TunWrite = {
  /** The kernel took the packet. */
  Written: 0,
  /** Its queue is full: write again when the device is writable. */
  WouldBlock: 1,
  /** The kernel refused the packet: malformed, or the interface is down. Counted. */
  Refused: 2,
} as const;

/** One of {@link TunWrite}. */
export type TunWrite = typeof TunWrite[keyof typeof TunWrite];

/** What a device has carried; only ever grows. */
export interface TunCounters {
  /** Reads that brought a packet. */
  reads: number;
  /** Bytes read, headers included. */
  readBytes: number;
  /** Writes that the kernel took. */
  writes: number;
  /** Bytes written, headers included. */
  writtenBytes: number;
  /** Writes refused. */
  refused: number;
}

/** An open TUN device, attached exclusively; non-blocking. */
export class TunDevice {
  /** For epoll. */
  readonly fd: Fd;
  /** Interface name, as the kernel chose it. */
  readonly name: string;
  /** Whether the kernel hands over and takes UDP super-packets (Linux 6.2). */
  readonly udpSegmentation: boolean;
  /** Running totals. */
  readonly counters: TunCounters = {
    reads: 0,
    readBytes: 0,
    writes: 0,
    writtenBytes: 0,
    refused: 0,
  };
  #closed = false;

  private constructor(fd: Fd, name: string, udpSegmentation: boolean) {
    this.fd = fd;
    this.name = name;
    this.udpSegmentation = udpSegmentation;
  }

  /**
   * Creates (or attaches to) an interface; it is down and without addresses.
   *
   * @param name at most 15 bytes; `%d` in it is replaced by a free number
   * @throws OsError EPERM without CAP_NET_ADMIN, EBUSY when another process has it, ENOENT or ENODEV
   *   when the kernel has no TUN driver
   */
  static open(name: string): TunDevice {
    const encoded = new TextEncoder().encode(name);
    if (encoded.length === 0 || encoded.length >= IFNAMSIZ || /[\s/\0:]/.test(name)) {
      throw new RangeError(`Cannot name an interface ${JSON.stringify(name)}: 1 to 15 bytes`);
    }
    const fd = openDriver();
    try {
      // struct ifreq (linux/if.h), 40 bytes:
      //    0  16  ifr_name   NUL-terminated; the kernel writes the chosen name back
      //   16   2  ifr_flags  host order
      const request = new Memory(40);
      request.bytes.set(encoded);
      request.view.setUint16(IFNAMSIZ, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, true);
      if (libc.ioctl(fd, TUNSETIFF, request.bytes) < 0) throw attachError(name, errno());
      const chosen = new TextDecoder().decode(
        request.bytes.subarray(0, request.bytes.indexOf(0)),
      );
      return new TunDevice(fd, chosen, enableOffloads(fd, chosen));
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /**
   * Reads one packet with its virtio header into the start of `buf`.
   *
   * @param buf at least {@link TUN_READ_SIZE} bytes; what does not fit is lost
   * @returns bytes read, header included; 0 when nothing waits
   * @throws OsError when the device is gone
   */
  read(buf: Uint8Array): number {
    while (true) {
      const n = libc.read(this.fd, buf, buf.length);
      if (n > 0) {
        this.counters.reads++;
        this.counters.readBytes += n;
        return n;
      }
      const error = n === 0 ? Errno.EBADFD : errno();
      if (error === Errno.EAGAIN) return 0;
      if (error !== Errno.EINTR) throw new OsError("read", this.name, error);
    }
  }

  /** Writes one packet, `buf[start, start + length)`, which begins with a virtio header. */
  write(buf: Uint8Array, start: number, length: number): TunWrite {
    const packet = start === 0 ? buf : buf.subarray(start);
    for (let attempt = 0;; attempt++) {
      if (libc.write(this.fd, packet, length) >= 0) {
        this.counters.writes++;
        this.counters.writtenBytes += length;
        return TunWrite.Written;
      }
      const error = errno();
      if (error === Errno.EAGAIN) return TunWrite.WouldBlock;
      if (error === Errno.EBADF || error === Errno.EBADFD) {
        throw new OsError("write", this.name, error);
      }
      // The receive queue of the interface may overflow for a moment (ENOSPC, ENOBUFS).
      const passing = error === Errno.EINTR || error === Errno.ENOSPC || error === Errno.ENOBUFS;
      if (!passing || attempt >= 8) {
        this.counters.refused++;
        return TunWrite.Refused;
      }
    }
  }

  /** Closes the device, which removes the interface with its addresses and routes. */
  close(): void {
    if (!this.#closed) closeFd(this.fd);
    this.#closed = true;
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function openDriver(): Fd {
  const path = cString(TUN_PATH);
  const flags = O_RDWR | O_NONBLOCK | O_CLOEXEC;
  let fd = libc.open(path, flags, 0);
  if (fd < 0 && errno() === Errno.ENOENT) {
    createDeviceNode(path);
    fd = libc.open(path, flags, 0);
  }
  if (fd >= 0) return fd as Fd;
  const error = errno();
  throw new OsError("open", TUN_PATH, error, openHint(error));
}

function openHint(error: number): string | undefined {
  switch (error) {
    case Errno.EPERM:
    case Errno.EACCES:
      return "run as root, or let the user open the device";
    case Errno.ENOENT:
    case Errno.ENODEV:
    case Errno.ENXIO:
      return "load the driver (modprobe tun), or pass the device into the container";
    default:
      return undefined;
  }
}

/** Containers often lack the node although the kernel has the driver. */
function createDeviceNode(path: Uint8Array<ArrayBuffer>): void {
  try {
    Deno.mkdirSync(TUN_DIRECTORY, { recursive: true, mode: 0o751 });
  } catch {
    return; // the second open tells what is wrong
  }
  libc.mknod?.(path, S_IFCHR | 0o666, TUN_DEVICE_NUMBER);
}

function attachError(name: string, error: number): OsError {
  const hint = error === Errno.EPERM
    ? "run as root or grant CAP_NET_ADMIN"
    : error === Errno.EBUSY
    ? "another process has this interface: stop it first"
    : undefined;
  return new OsError("ioctl TUNSETIFF", name, error, hint);
}

/** Switches offloads on; true when UDP is among them. */
function enableOffloads(fd: Fd, name: string): boolean {
  const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  if (libc.ioctlValue(fd, TUNSETOFFLOAD, tcp | TUN_F_USO4 | TUN_F_USO6) === 0) return true;
  if (libc.ioctlValue(fd, TUNSETOFFLOAD, tcp) === 0) return false;
  throw osError("ioctl TUNSETOFFLOAD", name);
}
