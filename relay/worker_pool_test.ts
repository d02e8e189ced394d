import { assertEquals } from "@std/assert";
import { WorkerError, type WorkerHandlers } from "@firezone/core/runtime";
import type { RelayNotice, RelayOrder } from "./worker_messages.ts";
import { WorkerPool } from "./worker_pool.ts";

Deno.test("WorkerPool lets nobody serve before all have opened their sockets", () => {
  const { pool, workers, seen } = start(3);
  assertEquals(pool.size, 3);
  workers[0]!.say({ tag: "bound" });
  workers[2]!.say({ tag: "bound" });
  assertEquals([seen, workers.flatMap((w) => w.orders)], [[], []]);
  workers[1]!.say({ tag: "bound" });
  assertEquals(seen, ["listening"]);
  assertEquals(workers.map((w) => w.orders), [[{ tag: "serve" }], [{ tag: "serve" }], [{
    tag: "serve",
  }]]);
});

Deno.test("WorkerPool tells once why it cannot start, whoever was refused", () => {
  const { workers, seen } = start(2);
  workers[1]!.say({ tag: "refused", reason: "port taken" });
  workers[0]!.say({ tag: "refused", reason: "port taken, too" });
  assertEquals(seen, ["refused: port taken"]);
});

Deno.test("WorkerPool counts allocations and tells when the last one has ended", () => {
  const { pool, workers, seen } = start(2);
  workers[0]!.say({ tag: "allocated", id: 1, soleOf: "ann" });
  workers[1]!.say({ tag: "allocated", id: 1, soleOf: undefined });
  assertEquals(pool.allocationCount, 2);
  workers[0]!.say({ tag: "ended", id: 1, soleOf: "ann" });
  assertEquals(seen, []);
  workers[1]!.say({ tag: "ended", id: 1, soleOf: undefined });
  assertEquals([seen, pool.allocationCount], [["idle"], 0]);
});

Deno.test("WorkerPool has the older allocation of a user ended by the worker that has it", () => {
  const { workers } = start(3);
  workers[0]!.say({ tag: "allocated", id: 7, soleOf: "ann" });
  workers[1]!.say({ tag: "allocated", id: 3, soleOf: "bob" });
  workers[2]!.say({ tag: "allocated", id: 5, soleOf: "ann" });
  assertEquals(workers.map((w) => w.orders), [
    [{ tag: "superseded", id: 7, username: "ann" }],
    [],
    [],
  ]);
});

Deno.test("WorkerPool passes reports on with the worker's number, and failures as they are", async () => {
  const { pool, workers, seen } = start(2);
  workers[1]!.say({ tag: "report", report: {} as never });
  workers[0]!.handlers.onFatal(new WorkerError("boom"));
  assertEquals(seen, ["report of 1", "fatal: boom"]);
  await pool.close();
  assertEquals(workers.map((w) => w.isClosed), [true, true]);
});

class FakeWorker {
  readonly orders: RelayOrder[] = [];
  isClosed = false;

  constructor(readonly handlers: WorkerHandlers<RelayNotice>) {}

  post(order: RelayOrder): void {
    this.orders.push(order);
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }

  say(notice: RelayNotice): void {
    this.handlers.onMessage(notice);
  }
}

function start(count: number) {
  const workers: FakeWorker[] = [];
  const seen: string[] = [];
  const pool = new WorkerPool(
    count,
    (index, handlers) => workers[index] = new FakeWorker(handlers),
    {
      onListening: () => seen.push("listening"),
      onRefused: (reason) => seen.push(`refused: ${reason}`),
      onReport: (worker) => seen.push(`report of ${worker}`),
      onIdle: () => seen.push("idle"),
      onFatal: (error) => seen.push(`fatal: ${error.message}`),
    },
  );
  return { pool, workers, seen };
}
