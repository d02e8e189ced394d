/**
 * The relay as a target: any sequence of steps in virtual time.
 * @module
 */

import fc from "fast-check";
import { sequences, setups } from "./relay_steps.ts";
import { RelayWorld } from "./relay_world.ts";
import type { FuzzTarget } from "./target.ts";

/** See the head of this file. */
export const relayTarget: FuzzTarget = {
  name: "relay",
  description: "a RelayServer with requests, data, garbage and time, and checks its promises",
  property: (coverage) =>
    // Without bias towards the ends of ranges: an index is no quantity.
    fc.property(fc.noBias(setups), fc.noBias(sequences), (setup, list) => {
      const world = new RelayWorld(setup, coverage);
      for (const step of list) world.do(step);
    }),
};
