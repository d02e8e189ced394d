import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { REPLAY_WINDOW_SIZE, ReplayWindow } from "./replay_window.ts";

/** What the window means, said slowly. */
class SlowWindow {
  readonly #seen = new Set<number>();
  #greatest = -1;

  get missing(): number {
    return this.#greatest + 1 - this.#seen.size;
  }

  accept(counter: number): boolean {
    if (this.#seen.has(counter) || this.#greatest - counter >= REPLAY_WINDOW_SIZE) return false;
    this.#seen.add(counter);
    this.#greatest = Math.max(this.#greatest, counter);
    return true;
  }
}

Deno.test("the window is wide enough for the reordering of many queues", () => {
  assert(REPLAY_WINDOW_SIZE >= 2048);
});

Deno.test("ReplayWindow answers as its slow twin does, for any order and any jumps", () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -40, max: 40 }) },
    { weight: 2, arbitrary: fc.integer({ min: -9000, max: 9000 }) },
    { weight: 1, arbitrary: fc.constantFrom(-8161, -8160, -8159, 31, 32, 33, 8159, 8160, 8192) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 40 }) },
  );
  fc.assert(fc.property(
    fc.constantFrom(0, 5, 31, 8191, 2 ** 32 - 20, 2 ** 52),
    fc.array(step, { maxLength: 300 }),
    (first, steps) => {
      const [fast, slow] = [new ReplayWindow(), new SlowWindow()];
      let counter = first;
      for (const step of steps) {
        counter = Math.min(2 ** 53 - 2, Math.max(0, counter + step));
        const fresh = fast.isFresh(counter);
        assertEquals(fresh, slow.accept(counter), `counter ${counter}`);
        if (fresh) fast.accept(counter);
        assertEquals(fast.missing, slow.missing);
      }
    },
  ));
});

Deno.test("ReplayWindow takes each of a reversed and of a shuffled window once", () => {
  const window = new ReplayWindow();
  for (let i = REPLAY_WINDOW_SIZE - 1; i >= 0; i--) {
    assert(window.isFresh(i));
    window.accept(i);
  }
  for (let i = 0; i < REPLAY_WINDOW_SIZE; i++) assert(!window.isFresh(i));
  assert(window.isFresh(REPLAY_WINDOW_SIZE));
  window.accept(REPLAY_WINDOW_SIZE);
  assert(!window.isFresh(0));
});

Deno.test("ReplayWindow leaves its ring to another, once, which then has seen nothing", () => {
  const gone = new ReplayWindow();
  for (let i = 0; i < 100; i++) gone.accept(i);
  gone.dispose();
  gone.dispose();
  const [one, two] = [new ReplayWindow(), new ReplayWindow()];
  one.accept(99);
  two.accept(98);
  for (let i = 0; i < 98; i++) assert(one.isFresh(i) && two.isFresh(i), `${i}`);
  assert(one.isFresh(98) && !two.isFresh(98) && !one.isFresh(99));
});
