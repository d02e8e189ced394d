/**
 * Datagrams of all sizes in several flows, sent back by the other end and checked at both:
 * `udp_traffic.ts ORDERS`, see {@link UdpOrders}.
 *
 *     0      4         8
 *     | flow | number  | pattern of both …      numbers count up within a flow
 *
 * Some leave alone, others in runs that the kernel cuts apart (UDP_SEGMENT), so that super-packets
 * come out of TUN, too. Datagrams may be lost, but none may be damaged or come twice, and as long as
 * the way stays the same none may come after a later one of its flow.
 * @module
 */

import { ip, SocketAddress } from "@firezone/core/ip";
import { Epoll, SendResult, UdpSocket } from "@firezone/core/os/linux";
import { Dice, Pattern } from "./pattern.ts";

/** What to do, as JSON in the first argument. */
export type UdpOrders =
  | { readonly serve: number; readonly addresses: readonly string[] }
  | {
    readonly send: readonly string[];
    readonly port: number;
    readonly datagrams: number;
    /** Tells the flows of one run from those of another. */
    readonly run: number;
  };

/** What became of the datagrams, at one end. */
export interface UdpCounts {
  /** That arrived, in order and undamaged. */
  right: number;
  /** With other bytes than were sent. */
  damaged: number;
  /** Once more. */
  repeated: number;
  /** After a later one of the same flow. */
  late: number;
  /** The first few of those that were not right. */
  readonly examples: string[];
}

/** What the sending end prints. */
export interface UdpReport {
  /** Datagrams sent. */
  readonly sent: number;
  /** What arrived at the other end. */
  readonly there: UdpCounts;
  /** What came back. */
  readonly back: UdpCounts;
}

const HEADER = 8;
const MAX_LENGTH = 1232; // 1280 less the headers of IPv6 and UDP
const FLOWS_PER_ADDRESS = 4;
/** Sent and not back yet, in all flows together. */
const WINDOW = 400;
/** After so long those are taken for lost. */
const PATIENCE_MS = 100;
/** After so long without any the tunnel is taken for broken. */
const STALL_MS = 10_000;
const QUESTION_MS = 250;
const MAX_RUN = 20;
/** Flows of a run are numbered from here on, times the run. */
const RUN = 1000;
const MAX_EXAMPLES = 10;
/** In the place of a flow: asks for the counts of the run whose number follows. */
const QUESTION = 0xffff_ffff;
const BUFFERS = { receiveBuffer: 8 << 20, sendBuffer: 8 << 20 };

/** Checks the datagrams of many flows. */
class Checker {
  readonly counts: UdpCounts = { right: 0, damaged: 0, repeated: 0, late: 0, examples: [] };
  readonly #flows = new Map<number, Numbers>();

  /** Whether the datagram is as it should be. */
  take(bytes: Uint8Array): boolean {
    if (bytes.length < HEADER) return this.#bad("damaged", `${bytes.length} bytes`);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const [flow, number] = [view.getUint32(0), view.getUint32(4)];
    if (!patternOf(flow, number).check(bytes.subarray(HEADER))) {
      return this.#bad("damaged", `${flow}:${number}, ${bytes.length} bytes`);
    }
    const numbers = this.#flows.get(flow) ?? new Numbers();
    this.#flows.set(flow, numbers);
    const { last } = numbers;
    const order = numbers.take(number);
    if (order !== "next") return this.#bad(order, `${flow}:${number} after ${last}`);
    this.counts.right++;
    return true;
  }

  #bad(what: "damaged" | "repeated" | "late", example: string): false {
    this.counts[what]++;
    if (this.counts.examples.length < MAX_EXAMPLES) this.counts.examples.push(`${what} ${example}`);
    return false;
  }
}

/** The numbers of a flow that came. */
export class Numbers {
  /** The greatest; -1 while there is none. */
  last = -1;
  readonly #skipped = new Set<number>();

  /** What the next one to come is. */
  take(number: number): "next" | "late" | "repeated" {
    if (number <= this.last) return this.#skipped.delete(number) ? "late" : "repeated";
    for (let n = this.last + 1; n < number; n++) this.#skipped.add(n);
    this.last = number;
    return "next";
  }
}

function patternOf(flow: number, number: number): Pattern {
  return new Pattern(flow * 7919 + number);
}

function* datagrams(socket: UdpSocket): Generator<{ from: SocketAddress; bytes: Uint8Array }> {
  for (let n; (n = socket.receive()) > 0;) {
    for (let i = 0; i < n; i++) {
      const end = socket.start(i) + socket.length(i);
      for (let at = socket.start(i); at < end; at += socket.segmentSize(i)) {
        const bytes = socket.buffer.slice(at, Math.min(at + socket.segmentSize(i), end));
        yield { from: socket.from(i), bytes };
      }
    }
  }
}

function serve(port: number, addresses: readonly string[]): never {
  const checkers = new Map<number, Checker>();
  const checkerOf = (run: number) => {
    const checker = checkers.get(run) ?? new Checker();
    checkers.set(run, checker);
    return checker;
  };
  const epoll = new Epoll();
  const sockets = addresses.map((text) => {
    const address = ip(text);
    return UdpSocket.open({ family: address.family, address, port, ...BUFFERS });
  });
  for (const [i, socket] of sockets.entries()) epoll.add(socket.fd, i, { readable: true });
  console.log("listening");
  for (;;) {
    const n = epoll.wait(-1);
    for (let i = 0; i < n; i++) {
      const socket = sockets[epoll.token(i)]!;
      for (const { from, bytes } of datagrams(socket)) {
        const view = new DataView(bytes.buffer);
        const flow = view.getUint32(0);
        const answer = flow === QUESTION
          ? new TextEncoder().encode(JSON.stringify(checkerOf(view.getUint32(4)).counts))
          : checkerOf(Math.floor(flow / RUN)).take(bytes)
          ? bytes
          : undefined;
        if (answer) socket.send(undefined, from, answer, 0, answer.length, 0, 0);
      }
    }
  }
}

/** One flow: a port of ours to a port of theirs. */
class Flow {
  readonly #socket: UdpSocket;
  readonly #to: SocketAddress;
  readonly #id: number;
  readonly #dice: Dice;
  readonly #buf = new Uint8Array(65_536);
  #next = 0;

  constructor(id: number, host: string, port: number) {
    this.#id = id;
    this.#to = new SocketAddress(ip(host), port);
    this.#dice = new Dice(id);
    this.#socket = UdpSocket.open({ family: this.#to.family, port: 0, ...BUFFERS });
  }

  get fd() {
    return this.#socket.fd;
  }

  /** Sends a single datagram or a run; how many. */
  send(): number {
    const count = this.#dice.below(2) === 0 ? 1 : 1 + this.#dice.below(MAX_RUN);
    const size = HEADER + this.#dice.below(MAX_LENGTH - HEADER + 1);
    const last = HEADER + this.#dice.below(size - HEADER + 1);
    let end = 0;
    for (let i = 0; i < count; i++) {
      const length = i === count - 1 ? last : size;
      const view = new DataView(this.#buf.buffer, end);
      view.setUint32(0, this.#id);
      view.setUint32(4, this.#next);
      patternOf(this.#id, this.#next++).fill(this.#buf.subarray(end + HEADER, end + length));
      end += length;
    }
    const segment = count > 1 ? size : 0;
    const result = this.#socket.send(undefined, this.#to, this.#buf, 0, end, segment, 0);
    if (result === SendResult.Refused) {
      const reasons = [...this.#socket.sendCounters.refused.keys()].join(", ");
      throw new Error(`cannot send to ${this.#to}: ${reasons}`);
    }
    return count;
  }

  receive(): Uint8Array[] {
    return Array.from(datagrams(this.#socket), ({ bytes }) => bytes);
  }

  /** Asks the other end what it has counted. */
  ask(run: number): UdpCounts {
    const question = new Uint8Array(HEADER);
    const view = new DataView(question.buffer);
    view.setUint32(0, QUESTION);
    view.setUint32(4, run);
    using epoll = new Epoll();
    epoll.add(this.fd, 0, { readable: true });
    for (let waited = 0; waited < STALL_MS; waited += QUESTION_MS) {
      this.#socket.send(undefined, this.#to, question, 0, HEADER, 0, 0);
      if (epoll.wait(QUESTION_MS) === 0) continue;
      const answer = this.receive().at(-1);
      if (answer?.[0] === 0x7b) return JSON.parse(new TextDecoder().decode(answer));
    }
    throw new Error(`the tunnel stands still: no answer to a question for ${STALL_MS} ms`);
  }
}

function exchange(
  hosts: readonly string[],
  port: number,
  wanted: number,
  run: number,
): UdpReport {
  const checker = new Checker();
  const flows = Array.from(
    { length: hosts.length * FLOWS_PER_ADDRESS },
    (_, i) => new Flow(run * RUN + i, hosts[i % hosts.length]!, port),
  );
  const epoll = new Epoll();
  for (const [i, flow] of flows.entries()) epoll.add(flow.fd, i, { readable: true });
  let runs = 0;
  let sent = 0;
  let out = 0; // sent and neither back nor given up
  let heardAt = performance.now();
  let isSilent = false;
  while (sent < wanted || out > 0) {
    while (out < WINDOW && sent < wanted) {
      const count = flows[runs++ % flows.length]!.send();
      sent += count;
      out += count;
    }
    const n = epoll.wait(PATIENCE_MS);
    if (n === 0) {
      if (performance.now() - heardAt > STALL_MS) {
        const { right } = checker.counts;
        throw new Error(
          `the tunnel stands still: ${right} of ${sent} came back, and none for ${STALL_MS} ms`,
        );
      }
      // Where nothing comes back a run now and then is enough to see when that changes.
      out = isSilent && sent < wanted ? WINDOW - 1 : 0;
      isSilent = true;
      continue;
    }
    if (isSilent) out = 0;
    isSilent = false;
    heardAt = performance.now();
    for (let i = 0; i < n; i++) {
      for (const bytes of flows[epoll.token(i)]!.receive()) {
        checker.take(bytes);
        out = Math.max(0, out - 1);
      }
    }
  }
  return { sent, there: flows[0]!.ask(run), back: checker.counts };
}

if (import.meta.main) {
  const orders: UdpOrders = JSON.parse(Deno.args[0]!);
  if ("serve" in orders) serve(orders.serve, orders.addresses); // never returns
  const { send, port, datagrams, run } = orders;
  console.log(JSON.stringify(exchange(send, port, datagrams, run)));
}
