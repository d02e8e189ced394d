/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

// Blocks in epoll and answers what the main thread posts; "throw" and "stop" do as they say.

import { Epoll } from "../../os/linux/mod.ts";
import { acceptWorkerSide } from "../worker_channel.ts";

acceptWorkerSide<string, string, { readonly greeting: string }>((side, { greeting }) => {
  using epoll = new Epoll();
  epoll.add(side.fd, 0, { readable: true });
  side.post(greeting);
  let running = true;
  while (running) {
    epoll.wait(-1);
    const open = side.receiveAll((message) => {
      if (message === "throw") throw new RangeError("told to throw");
      if (message === "stop") running = false;
      else side.post(`echo ${message}`);
    });
    running &&= open;
  }
  side.post("bye");
});
