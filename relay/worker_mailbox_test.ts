import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { slicePorts } from "./port_pool.ts";
import { WorkerMailbox, WorkerPipes } from "./worker_mailbox.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };
const SLICES = slicePorts({ lowest: 50_000, highest: 50_299 }, 3);

Deno.test({
  name: "WorkerMailbox brings packets whole and in order to the worker that has the port",
  ...onLinux,
  fn() {
    using pipes = WorkerPipes.open(SLICES);
    const mailboxes = SLICES.map((_, i) => new WorkerMailbox(pipes.siblings, i));
    const packet = fc.record({
      from: fc.nat(2),
      to: fc.integer({ min: 50_000, max: 50_299 }),
      family: fc.constantFrom(4 as const, 6 as const),
      ecn: fc.nat(3),
      data: fc.uint8Array({ maxLength: 3000 }),
    });
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 60 }), (packets) => {
        for (const { from, to, family, ecn, data } of packets) {
          const buf = new Uint8Array([7, ...data, 7]);
          mailboxes[from]!.put(to, SLICES[from]!.lowest, family, ecn, buf, 1, 1 + data.length);
        }
        for (const mailbox of mailboxes) mailbox.flush();
        for (const [i, mailbox] of mailboxes.entries()) {
          const got = [...received(mailbox)];
          for (const from of [0, 1, 2]) {
            const sent = packets.filter((p) =>
              p.from === from && Math.floor((p.to - 5e4) / 100) === i
            );
            assertEquals(
              got.filter((p) => p.peerPort === SLICES[from]!.lowest),
              sent.map(({ to, family, ecn, data }) => ({
                port: to,
                peerPort: SLICES[from]!.lowest,
                family,
                ecn,
                data: [...data],
              })),
            );
          }
          assertEquals(mailbox.lost, 0);
        }
      }),
      { numRuns: 30 },
    );
  },
});

Deno.test({
  name: "WorkerMailbox loses and counts what nobody fetches, and what is for nobody",
  ...onLinux,
  fn() {
    using pipes = WorkerPipes.open(SLICES);
    const [sender, receiver] = [0, 1].map((i) => new WorkerMailbox(pipes.siblings, i));
    const data = new Uint8Array(1200);
    let sent = 0;
    while (sender!.lost === 0 && sent < 1e6) {
      for (let i = 0; i < 50; i++, sent++) sender!.put(50_100, 50_000, 4, 0, data, 0, 1200);
      sender!.flush();
    }
    assertEquals([...received(receiver!)].length, sent - sender!.lost);
    sender!.put(50_100, 50_000, 4, 0, data, 0, 1200);
    sender!.flush();
    assertEquals([...received(receiver!)].length, 1);
    const { lost } = sender!;
    sender!.put(49_999, 50_000, 4, 0, data, 0, 1);
    assertEquals(sender!.lost, lost + 1);
  },
});

Deno.test({
  name: "WorkerMailbox carries the longest and the shortest application data there can be",
  ...onLinux,
  fn() {
    using pipes = WorkerPipes.open(SLICES);
    const [sender, receiver] = [0, 2].map((i) => new WorkerMailbox(pipes.siblings, i));
    const data = new Uint8Array(65_507).fill(5);
    sender!.put(50_250, 50_000, 6, 1, data, 0, data.length);
    sender!.put(50_250, 50_000, 6, 1, data, 0, 0);
    sender!.flush();
    assertEquals([...received(receiver!)].map((p) => p.data.length), [65_507, 0]);
  },
});

function* received(mailbox: WorkerMailbox) {
  while (mailbox.receive()) {
    while (mailbox.next()) {
      const { port, peerPort, family, ecn, buffer, start, end } = mailbox;
      assert(end >= start);
      yield { port, peerPort, family, ecn, data: [...buffer.subarray(start, end)] };
    }
  }
}
