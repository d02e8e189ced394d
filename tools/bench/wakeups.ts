/**
 * How long it takes to wake one thread after the other, with nothing to do for any of them:
 * `deno run -A tools/bench/wakeups.ts [THREADS]`.
 *
 *     here ──► thread ──► thread ──► thread ──► thread ──► here      each asleep in epoll
 *
 * Four threads in turn are what an idle round trip through a tunnel is made of, beside the packet: the
 * client's and the gateway's on the way there, the same on the way back, then whoever waits. On a bare
 * network the kernel carries packet and answer before the sender goes to sleep.
 *
 * @module
 */

import { Epoll, EventFd } from "@firezone/core/os/linux";
import { quantile } from "./tunnel_measures.ts";

const ROUNDS = 500;
/** Between two rounds, so that processors go to sleep, too. */
const PAUSE_MS = 10;

/** What one thread waits for, and whom it wakes then. */
export interface WakeupOrders {
  /** Descriptor of the eventfd to wait for. */
  readonly wait: number;
  /** Descriptor of the eventfd to signal. */
  readonly wake: number;
}

/** The times of `rounds` rounds through that many threads, in microseconds. */
export async function measureWakeups(threads: number, rounds = ROUNDS): Promise<number[]> {
  const links = Array.from({ length: threads + 1 }, () => EventFd.open());
  const workers = await Promise.all(Array.from({ length: threads }, async (_, i) => {
    const url = new URL("./wakeups_thread.ts", import.meta.url);
    const worker = new Worker(url, { type: "module" });
    const orders: WakeupOrders = { wait: links[i]!.fd, wake: links[i + 1]!.fd };
    await new Promise((resolve) => {
      worker.onmessage = resolve;
      worker.postMessage(orders);
    });
    return worker;
  }));
  const epoll = new Epoll();
  const last = links.at(-1)!;
  epoll.add(last.fd, 0, { readable: true });
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const start = performance.now();
    links[0]!.signal();
    epoll.wait(-1);
    times.push(1000 * (performance.now() - start));
    last.drain();
  }
  for (const worker of workers) worker.terminate();
  epoll.close();
  for (const link of links) link.close();
  return times;
}

if (import.meta.main) {
  const threads = Number(Deno.args[0] ?? 4);
  const times = await measureWakeups(threads);
  const [middle, p99] = [quantile(times, 0.5), quantile(times, 0.99)];
  console.log(
    `${threads} threads in turn: median ${middle.toFixed(0)} µs, p99 ${p99.toFixed(0)} µs`,
  );
  Deno.exit(); // threads that sleep in epoll do not notice that they are ended
}
