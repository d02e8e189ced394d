/**
 * Netlink sockets: requests with their answers, and notifications.
 *
 * The kernel works on a request inside `send`, so answers are there when it returns and nothing here
 * blocks for long; a time limit guards against the unforeseen.
 *
 * Owns: descriptor, sequence numbers. Does not own: what messages mean.
 * @module
 */

import { readU32le } from "../../bytes/fields.ts";
import { Errno, OsError, osError } from "./errno.ts";
import { closeFd, type Fd } from "./fd.ts";
import { errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";
import {
  attributeText,
  type NetlinkMessage,
  type NetlinkWriter,
  NLM_F,
  NLMSG,
  parseAttributes,
  parseNetlinkMessages,
} from "./netlink_message.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const NLMSGERR_ATTR_MSG = 1;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

const RECEIVE_SIZE = 128 * 1024;
const ANSWER_TIMEOUT_SECONDS = 5;
const DUMP_ATTEMPTS = 5;

/** Netlink families used here. */
export const NetlinkProtocol = { Route: 0, Netfilter: 12 } as const;

/** The kernel's verdict on a request. */
export interface NetlinkAnswer {
  /** Positive error number; 0 for success. */
  readonly errno: number;
  /** The kernel's explanation, if it gave one. */
  readonly text: string | undefined;
  /** Messages before the verdict: the entries of a dump. */
  readonly messages: readonly NetlinkMessage[];
}

/** A bound netlink socket. */
export class NetlinkSocket {
  /** Readable while notifications wait, for epoll. */
  readonly fd: Fd;
  readonly #buffer = new Memory(RECEIVE_SIZE);
  #sequence = 0;
  #closed = false;

  private constructor(fd: Fd) {
    this.fd = fd;
  }

  /**
   * Opens a socket.
   *
   * @param groups bits of the multicast groups to hear of
   * @throws OsError EPROTONOSUPPORT when the kernel lacks the protocol
   */
  static open(protocol: number, groups = 0): NetlinkSocket {
    const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol) as Fd;
    if (fd < 0) throw osError("socket", `netlink protocol ${protocol}`);
    // struct sockaddr_nl (linux/netlink.h), 12 bytes: u16 family, 2 bytes of padding, u32 pid, u32 groups
    const name = new Memory(12);
    name.u32[0] = AF_NETLINK;
    name.u32[2] = groups;
    if (libc.bind(fd, name.bytes, 12) < 0) {
      const error = osError("bind", `netlink protocol ${protocol}`);
      closeFd(fd);
      throw error;
    }
    const value = new Memory(16);
    value.u32[0] = 1;
    // Old kernels lack these; the answers are then longer or less telling.
    libc.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, value.bytes, 4);
    libc.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, value.bytes, 4);
    libc.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, value.bytes, 4);
    // struct timeval: i64 seconds, i64 microseconds
    value.u32[0] = ANSWER_TIMEOUT_SECONDS;
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, value.bytes, 16);
    return new NetlinkSocket(fd);
  }

  /** A sequence number for the next request. */
  nextSequence(): number {
    return this.#sequence = (this.#sequence + 1) >>> 0;
  }

  /** Sends one request that asks for an acknowledgement or a dump, and waits for its end. */
  request(writer: NetlinkWriter): NetlinkAnswer {
    const bytes = writer.finish();
    for (let attempt = 1;; attempt++) {
      this.#send(bytes);
      const answer = this.#collect(readU32le(bytes, 8));
      const raced = answer.messages.some((m) => (m.flags & NLM_F.DUMP_INTR) !== 0);
      if (!raced || attempt >= DUMP_ATTEMPTS) return answer;
    }
  }

  /** Sends several messages at once and returns the errors that came back for any. */
  transact(writer: NetlinkWriter): NetlinkAnswer[] {
    this.#send(writer.finish());
    const errors: NetlinkAnswer[] = [];
    for (let batch = this.receive(); batch !== undefined; batch = this.receive()) {
      if (batch === "overrun") throw new OsError("recv", "netlink socket", Errno.ENOBUFS);
      for (const message of batch) {
        if (message.type !== NLMSG.ERROR) continue;
        const verdict = parseVerdict(message, []);
        if (verdict.errno !== 0) errors.push(verdict);
      }
    }
    return errors;
  }

  /** Takes what waits; never blocks. Undefined when nothing does, "overrun" when messages were lost. */
  receive(): NetlinkMessage[] | "overrun" | undefined {
    return this.#receive(MSG_DONTWAIT);
  }

  /** Closes the socket; a second call does nothing. */
  close(): void {
    if (!this.#closed) closeFd(this.fd);
    this.#closed = true;
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #send(bytes: Uint8Array<ArrayBuffer>): void {
    while (libc.send(this.fd, bytes, bytes.length, 0) < 0) {
      const error = errno();
      if (error !== Errno.EINTR) throw new OsError("send", "netlink socket", error);
    }
  }

  #collect(sequence: number): NetlinkAnswer {
    const messages: NetlinkMessage[] = [];
    while (true) {
      const batch = this.#receive(0);
      if (batch === undefined) throw new OsError("recv", "netlink socket", Errno.ETIMEDOUT);
      if (batch === "overrun") throw new OsError("recv", "netlink socket", Errno.ENOBUFS);
      for (const message of batch) {
        if (message.sequence !== sequence) continue;
        if (message.type === NLMSG.ERROR || message.type === NLMSG.DONE) {
          return parseVerdict(message, messages);
        }
        messages.push(message);
      }
    }
  }

  #receive(flags: number): NetlinkMessage[] | "overrun" | undefined {
    while (true) {
      const n = libc.recv(this.fd, this.#buffer.bytes, RECEIVE_SIZE, flags | MSG_TRUNC);
      if (n > RECEIVE_SIZE) return "overrun";
      if (n >= 0) return parseNetlinkMessages(this.#buffer.bytes.subarray(0, n));
      const error = errno();
      if (error === Errno.EAGAIN) return undefined;
      if (error === Errno.ENOBUFS) return "overrun";
      if (error !== Errno.EINTR) throw new OsError("recv", "netlink socket", error);
    }
  }
}

/** NLMSG_ERROR and NLMSG_DONE begin with a negative error number, or zero. */
function parseVerdict(
  message: NetlinkMessage,
  messages: readonly NetlinkMessage[],
): NetlinkAnswer {
  const { body } = message;
  const error = body.length >= 4 ? -(readU32le(body, 0) | 0) : 0;
  // After it in NLMSG_ERROR comes the request's header (16 bytes), capped, then attributes.
  const attributes = parseAttributes(body, message.type === NLMSG.ERROR ? 20 : 4);
  return { errno: error, text: attributeText(attributes.get(NLMSGERR_ATTR_MSG)), messages };
}
