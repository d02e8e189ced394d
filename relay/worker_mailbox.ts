/**
 * Packets between clients of one relay whose allocations belong to different workers.
 *
 * They do not go over the network: behind a 1:1 NAT our public address is not on this machine, and a
 * router that brings a packet for itself back is rare. Each worker has a pipe into which all others
 * write; the packets of a burst for one worker share a write.
 *
 *     record:  0         2         4            5     6        8
 *              | to port | of port | family<<4  | 0   | length | application data |   big-endian
 *                                    | ECN
 *
 * Owns: buffers and framing. Does not own: the pipes.
 * Cost: two copies and, per burst and worker, two system calls.
 * @module
 */

import { readU16, writeU16 } from "@firezone/core/bytes";
import type { Family } from "@firezone/core/ip";
import {
  type Fd,
  MAX_PIPE_PACKET,
  ThreadPipe,
  ThreadPipeReader,
  ThreadPipeWriter,
} from "@firezone/core/os/linux";
import { isInRange, type PortRange } from "./port_pool.ts";

/** A worker as the others see it; plain data. */
export interface Sibling {
  /** Ports of its allocations. */
  readonly ports: PortRange;
  /** The pipe that it reads, and only it. */
  readonly readFd: number;
  /** The other end. */
  readonly writeFd: number;
}

/** The pipes of all workers. */
export class WorkerPipes {
  /** The workers. */
  readonly siblings: readonly Sibling[];
  readonly #pipes: readonly ThreadPipe[];

  private constructor(slices: readonly PortRange[], pipes: readonly ThreadPipe[]) {
    this.#pipes = pipes;
    this.siblings = pipes.map(({ readFd, writeFd }, i) => ({ ports: slices[i]!, readFd, writeFd }));
  }

  /** Opens a pipe for each worker. @param slices its ports @throws OsError */
  static open(slices: readonly PortRange[]): WorkerPipes {
    return new WorkerPipes(slices, slices.map(() => ThreadPipe.open()));
  }

  /** Closes the pipes; nobody may use them any more. */
  [Symbol.dispose](): void {
    for (const pipe of this.#pipes) pipe.close();
  }
}

const HEADER = 8;

/** One worker's mailbox, and its letters to the others. */
export class WorkerMailbox {
  /** Readable while packets wait. */
  readonly fd: Fd;
  /** Packets lost because a sibling did not keep up; only ever grows. */
  lost = 0;

  // The packet that `next` has found
  /** Port of ours it is for. */
  port = 0;
  /** Port of the sibling's allocation that it comes from. */
  peerPort = 0;
  /** In which family. */
  family: Family = 4;
  /** ECN field, 0 to 3. */
  ecn = 0;
  /** Where its application data begins in {@link buffer}. */
  start = 0;
  /** Where it ends. */
  end = 0;

  readonly #siblings: readonly Sibling[];
  readonly #outgoing: readonly Outgoing[];
  readonly #reader: ThreadPipeReader;
  #received = 0;

  /** Borrows the pipes.
   * @param siblings all workers, this one among them
   * @param self position of this one */
  constructor(siblings: readonly Sibling[], self: number) {
    this.#siblings = siblings;
    this.#outgoing = siblings.map(({ writeFd }) => new Outgoing(writeFd as Fd));
    this.fd = siblings[self]!.readFd as Fd;
    this.#reader = new ThreadPipeReader(this.fd);
  }

  /** What came in, for as long as {@link next} goes on. */
  get buffer(): Uint8Array {
    return this.#reader.buffer;
  }

  /**
   * Takes the application data `buf[start, end)` for the worker that has `port`.
   *
   * @param peerPort our allocation's port
   */
  put(
    port: number,
    peerPort: number,
    family: Family,
    ecn: number,
    buf: Uint8Array,
    start: number,
    end: number,
  ): void {
    const to = this.#siblings.findIndex(({ ports }) => isInRange(ports, port));
    const outgoing = this.#outgoing[to];
    const length = end - start;
    if (outgoing === undefined || HEADER + length > MAX_PIPE_PACKET) {
      this.lost++;
      return;
    }
    if (outgoing.length + HEADER + length > MAX_PIPE_PACKET) this.#send(outgoing);
    const { buffer, length: at } = outgoing;
    writeU16(buffer, at, port);
    writeU16(buffer, at + 2, peerPort);
    buffer[at + 4] = family << 4 | ecn;
    buffer[at + 5] = 0;
    writeU16(buffer, at + 6, length);
    buffer.set(buf.subarray(start, end), at + HEADER);
    outgoing.length += HEADER + length;
    outgoing.packets++;
  }

  /** Lets everything go that was put. */
  flush(): void {
    for (const outgoing of this.#outgoing) if (outgoing.packets > 0) this.#send(outgoing);
  }

  /** Fetches a burst; false when none waits. Then {@link next} finds its packets. */
  receive(): boolean {
    this.#received = this.#reader.receive();
    this.end = 0;
    return this.#received > 0;
  }

  /** Finds the next packet of the burst; false when there is none. */
  next(): boolean {
    const at = this.end;
    if (at >= this.#received) return false;
    const { buffer } = this.#reader;
    this.port = readU16(buffer, at);
    this.peerPort = readU16(buffer, at + 2);
    this.family = buffer[at + 4]! >> 4 as Family;
    this.ecn = buffer[at + 4]! & 3;
    this.start = at + HEADER;
    this.end = this.start + readU16(buffer, at + 6);
    return true;
  }

  #send(outgoing: Outgoing): void {
    if (!outgoing.writer.send(outgoing.buffer, outgoing.length)) this.lost += outgoing.packets;
    outgoing.length = 0;
    outgoing.packets = 0;
  }
}

/** What waits for one worker. */
class Outgoing {
  readonly writer: ThreadPipeWriter;
  length = 0;
  packets = 0;
  #buffer: Uint8Array<ArrayBuffer> | undefined;

  constructor(fd: Fd) {
    this.writer = new ThreadPipeWriter(fd);
  }

  /** Made when it is needed: most pairs of workers never have something to tell each other. */
  get buffer(): Uint8Array<ArrayBuffer> {
    return this.#buffer ??= new Uint8Array(MAX_PIPE_PACKET);
  }
}
