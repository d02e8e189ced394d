/**
 * The relay as a target: any sequence of steps in virtual time.
 * @module
 */

import fc from "fast-check";
import { setups, steps } from "./relay_steps.ts";
import { RelayWorld } from "./relay_world.ts";
import type { FuzzTarget } from "./target.ts";

/** See the head of this file. */
export const relayTarget: FuzzTarget = {
  name: "relay",
  description: "a RelayServer with requests, data, garbage and time, and checks its promises",
  property: (coverage) =>
    fc.property(setups, fc.array(steps, { maxLength: 120, size: "max" }), (setup, list) => {
      const world = new RelayWorld(setup, coverage);
      for (const step of list) world.do(step);
    }),
};
