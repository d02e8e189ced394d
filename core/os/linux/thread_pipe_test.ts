import { assert, assertEquals } from "@std/assert";
import { Epoll } from "./epoll.ts";
import { MAX_PIPE_PACKET, ThreadPipe, ThreadPipeReader, ThreadPipeWriter } from "./thread_pipe.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test({
  name: "ThreadPipe hands packets over whole and in order, and wakes who waits",
  ...onLinux,
  fn() {
    using pipe = ThreadPipe.open();
    using epoll = new Epoll();
    epoll.add(pipe.readFd, 7, { readable: true });
    assertEquals(epoll.wait(0), 0);
    const reader = new ThreadPipeReader(pipe.readFd);
    const writers = [new ThreadPipeWriter(pipe.writeFd), new ThreadPipeWriter(pipe.writeFd)];
    assertEquals(reader.receive(), 0);
    const lengths = [1, MAX_PIPE_PACKET, 3000];
    for (const [i, length] of lengths.entries()) {
      assert(writers[i % 2]!.send(new Uint8Array(MAX_PIPE_PACKET).fill(i + 1), length));
    }
    assertEquals([epoll.wait(0), epoll.token(0)], [1, 7]);
    for (const [i, length] of lengths.entries()) {
      assertEquals(reader.receive(), length);
      assert(reader.buffer.subarray(0, length).every((byte) => byte === i + 1));
    }
    assertEquals([reader.receive(), epoll.wait(0)], [0, 0]);
  },
});

Deno.test({
  name: "ThreadPipe refuses what exceeds its bound and works again afterwards",
  ...onLinux,
  fn() {
    using pipe = ThreadPipe.open();
    const reader = new ThreadPipeReader(pipe.readFd);
    const writer = new ThreadPipeWriter(pipe.writeFd);
    const packet = new Uint8Array(MAX_PIPE_PACKET);
    let waiting = 0;
    while (writer.send(packet, packet.length)) waiting++;
    assert(waiting >= 2 && waiting < 1000, `${waiting} packets wait`);
    for (let i = 0; i < waiting; i++) assertEquals(reader.receive(), packet.length);
    assert(writer.send(packet, packet.length));
  },
});
