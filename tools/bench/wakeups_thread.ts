/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * A thread of `wakeups.ts`: whenever it is woken it wakes the next.
 * @module
 */

import { Epoll, EventFd } from "@firezone/core/os/linux";
import type { WakeupOrders } from "./wakeups.ts";

self.onmessage = ({ data }: MessageEvent<WakeupOrders>) => {
  const wait = EventFd.borrow(data.wait);
  const wake = EventFd.borrow(data.wake);
  const epoll = new Epoll();
  epoll.add(wait.fd, 0, { readable: true });
  self.postMessage("ready");
  for (;;) {
    epoll.wait(-1);
    wait.drain();
    wake.signal();
  }
};
