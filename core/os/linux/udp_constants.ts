/**
 * Names from the kernel's headers that the UDP files share, and the control messages' layout.
 *
 *     struct cmsghdr (bits/socket.h)              struct msghdr (bits/types/struct_msghdr.h), 56 bytes
 *        0  8  cmsg_len    header and data           0  8  msg_name
 *        8  4  cmsg_level                            8  4  msg_namelen, 4 bytes of padding
 *       12  4  cmsg_type                            16  8  msg_iov
 *       16  …  data; the next header is aligned     24  8  msg_iovlen
 *              to eight bytes                       32  8  msg_control
 *                                                   40  8  msg_controllen
 *     struct iovec, 16 bytes: base, length          48  4  msg_flags, 4 bytes of padding
 *     struct mmsghdr, 64 bytes: msghdr, then at 56 the u32 msg_len, 4 bytes of padding
 *
 * @module
 */

/** Level of IPv4 options and control messages. */
export const IPPROTO_IP = 0;
/** Level of IPv6 options and control messages. */
export const IPPROTO_IPV6 = 41;
/** Level of UDP options and control messages. */
export const SOL_UDP = 17;
/** Level of socket options. */
export const SOL_SOCKET = 1;

/** Segment size of a send, u16 (udp(7)). */
export const UDP_SEGMENT = 103;
/** Segment size of a coalesced receive, int. */
export const UDP_GRO = 104;
/** struct in_pktinfo: int ifindex, in_addr spec_dst, in_addr addr. */
export const IP_PKTINFO = 8;
/** Type-of-service byte. */
export const IP_TOS = 1;
/** Asks for IP_TOS messages. */
export const IP_RECVTOS = 13;
/** struct in6_pktinfo: in6_addr, int ifindex. */
export const IPV6_PKTINFO = 50;
/** Asks for IPV6_PKTINFO messages. */
export const IPV6_RECVPKTINFO = 49;
/** Traffic class, int. */
export const IPV6_TCLASS = 67;
/** Asks for IPV6_TCLASS messages. */
export const IPV6_RECVTCLASS = 66;

/** Never block in this call. */
export const MSG_DONTWAIT = 0x40;
/** Set by the kernel: control messages did not fit. */
export const MSG_CTRUNC = 0x08;
/** Set by the kernel: the datagram did not fit. */
export const MSG_TRUNC = 0x20;

/** Most segments of one GSO send (UDP_MAX_SEGMENTS of kernels before 6.9). */
export const MAX_SEGMENTS = 64;
/** Most bytes of one send: what an IPv4 datagram can carry. */
export const MAX_SEND_BYTES = 65_507;
