import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { UserRegistry } from "./user_registry.ts";

Deno.test("UserRegistry names the allocation that a newer one supersedes elsewhere", () => {
  const registry = new UserRegistry();
  assertEquals(registry.handleAllocated("a", { worker: 0, id: 1 }), undefined);
  assertEquals(registry.handleAllocated("b", { worker: 1, id: 1 }), undefined);
  assertEquals(registry.handleAllocated("a", { worker: 1, id: 2 }), { worker: 0, id: 1 });
  registry.handleEnded("a", { worker: 0, id: 1 });
  assertEquals(registry.size, 2, "the newer one is still there");
  assertEquals(registry.handleAllocated("a", { worker: 1, id: 3 }), undefined, "its own affair");
  registry.handleEnded("a", { worker: 1, id: 3 });
  registry.handleEnded("b", { worker: 1, id: 1 });
  assertEquals(registry.size, 0);
});

Deno.test("However messages cross, the newest allocation of a user remains, and no other", () => {
  // Each worker has a queue in either direction; a step moves one message or makes an allocation.
  const step = fc.tuple(
    fc.constantFrom("allocate", "tell", "order", "end"),
    fc.nat(2),
    fc.constantFrom("ann", "bob"),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
    const registry = new UserRegistry();
    const workers = [0, 1, 2].map((index) => new FakeWorker(index));
    let newest = new Map<string, string>();
    const tell = (worker: FakeWorker) => {
      const notice = worker.notices.shift();
      if (notice === undefined) return;
      const { user, id, tag } = notice;
      const allocation = { worker: worker.index, id };
      if (tag === "ended") {
        if (newest.get(user) === `${worker.index}/${id}`) newest.delete(user);
        return registry.handleEnded(user, allocation);
      }
      newest = newest.set(user, `${worker.index}/${id}`);
      const older = registry.handleAllocated(user, allocation);
      if (older) workers[older.worker]!.orders.push({ user, id: older.id });
    };
    for (const [what, i, user] of steps) {
      const worker = workers[i]!;
      if (what === "allocate") worker.allocate(user);
      else if (what === "end") worker.end(user);
      else if (what === "tell") tell(worker);
      else worker.obey();
    }
    while (workers.some((w) => w.notices.length > 0 || w.orders.length > 0)) {
      for (const worker of workers) {
        tell(worker);
        worker.obey();
      }
    }
    const left = workers.flatMap((w) =>
      [...w.allocations].map(([user, id]) => [user, `${w.index}/${id}`] as const)
    );
    assertEquals(new Map(left), newest);
    assertEquals([left.length, registry.size], [newest.size, newest.size]);
  }));
});

/** What a worker does about its users, as `RelayServer` does it. */
class FakeWorker {
  readonly allocations = new Map<string, number>();
  readonly notices: { tag: "allocated" | "ended"; user: string; id: number }[] = [];
  readonly orders: { user: string; id: number }[] = [];
  #nextId = 1;

  constructor(readonly index: number) {}

  allocate(user: string): void {
    this.end(user);
    const id = this.#nextId++;
    this.allocations.set(user, id);
    this.notices.push({ tag: "allocated", user, id });
  }

  end(user: string): void {
    const id = this.allocations.get(user);
    if (id === undefined) return;
    this.allocations.delete(user);
    this.notices.push({ tag: "ended", user, id });
  }

  obey(): void {
    const order = this.orders.shift();
    if (order && this.allocations.get(order.user) === order.id) this.end(order.user);
  }
}
