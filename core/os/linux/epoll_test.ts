import { assert, assertEquals, assertThrows } from "@std/assert";
import { Epoll } from "./epoll.ts";
import { OsError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test({
  name: "Epoll reports tokens of what is readable until it is drained",
  ...onLinux,
  fn() {
    using epoll = new Epoll(2);
    const counters = [EventFd.open(), EventFd.open(), EventFd.open()];
    counters.forEach((counter, i) => epoll.add(counter.fd, 0xfffffff0 + i, { readable: true }));
    assertEquals(epoll.wait(0), 0);
    for (const counter of counters) counter.signal();
    assertEquals(epoll.wait(-1), 2, "no more than it has room for");
    const seen = new Set<number>();
    for (const counter of counters) {
      const n = epoll.wait(0);
      for (let i = 0; i < n; i++) {
        assert(epoll.isReadable(i) && !epoll.isWritable(i) && !epoll.isFailed(i));
        seen.add(epoll.token(i));
      }
      assert(counter.drain());
    }
    assertEquals([...seen].sort(), [0xfffffff0, 0xfffffff1, 0xfffffff2]);
    assertEquals(epoll.wait(0), 0);
    epoll.modify(counters[0]!.fd, 7, { readable: true, writable: true });
    assertEquals(epoll.wait(0), 1);
    assertEquals([epoll.token(0), epoll.isWritable(0), epoll.isReadable(0)], [7, true, false]);
    epoll.remove(counters[0]!.fd);
    assertEquals(epoll.wait(0), 0);
    for (const counter of counters) counter.close();
  },
});

Deno.test({
  name: "Epoll.wait rounds a fraction up, so that a deadline has passed when it returns",
  ...onLinux,
  fn() {
    using epoll = new Epoll();
    const before = performance.now();
    assertEquals(epoll.wait(1.5), 0);
    assert(performance.now() - before >= 1.5);
  },
});

Deno.test({
  name: "Epoll names the descriptor that it cannot watch",
  ...onLinux,
  fn() {
    using epoll = new Epoll();
    using counter = EventFd.open();
    epoll.add(counter.fd, 1, { readable: true });
    const twice = assertThrows(() => epoll.add(counter.fd, 1, { readable: true }), OsError);
    assertEquals([twice.code, twice.subject], ["EEXIST", `descriptor ${counter.fd}`]);
    epoll.remove(counter.fd);
    assertThrows(() => epoll.remove(counter.fd), OsError, "ENOENT");
  },
});

Deno.test({
  name: "EventFd merges signals and can be borrowed by number",
  ...onLinux,
  fn() {
    using counter = EventFd.open();
    assertEquals(counter.drain(), false);
    using other = EventFd.borrow(counter.fd);
    other.signal();
    other.signal();
    other.close();
    assertEquals(counter.drain(), true);
    assertEquals(counter.drain(), false);
  },
});
