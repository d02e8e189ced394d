/**
 * What must hold inside a relay after every input, whatever the input was. Tests and the fuzzer walk
 * the indices with it; the program itself never does.
 *
 * - Every index finds the same allocations and channels as every other.
 * - Everything that can end has a deadline in the heap, and nothing else has.
 * - A port is free, or belongs to exactly one allocation, open or being opened.
 * @module
 */

import { after, type Millis } from "@firezone/core/units";
import {
  type AllocationTable,
  type Channel,
  CHANNEL_COOLDOWN_MS,
  type RelayAllocation,
} from "./allocation_table.ts";
import type { RelayServer } from "./server.ts";

/** Something inside a relay contradicts something else; a bug. */
export class InvariantError extends Error {
  /** Its class. */
  override readonly name = "InvariantError";
}

/**
 * Walks everything inside a server whose queues were drained.
 *
 * @param ports how many its range has
 * @throws InvariantError when something does not hold
 */
export function checkServer(server: RelayServer, ports: number): void {
  const { table, pending, freePorts } = server.inside;
  checkTable(table);
  const taken = new Set<number>(table.indices.byPort.keys());
  for (const [id, { port, client, soleOf }] of pending) {
    holds(!taken.has(port), `port ${port} of pending ${id} is given to one alone`);
    taken.add(port);
    holds(table.byClient(client) === undefined, `${client} has one allocation`);
    holds(soleOf === undefined || table.soleOf(soleOf) === undefined, `${soleOf} has one`);
  }
  const clients = new Set(Array.from(pending.values(), ({ client }) => client.key));
  holds(clients.size === pending.size, "no client waits for two allocations");
  holds(freePorts + taken.size === ports, "every port is free or taken");
  holds(server.allocationCount === table.size + pending.size, "allocations are counted");
  holds(server.channelCount === table.channelCount, "channels are counted");
}

/** Walks the indices of a table. @throws InvariantError when two of them disagree */
export function checkTable(table: AllocationTable): void {
  const { byClient, byPort, byUsername, deadlines } = table.indices;
  holds(table.size === byClient.size && byPort.size === byClient.size, "indices are of one size");
  let channels = 0;
  let sole = 0;
  for (const [key, allocation] of byClient) {
    const { client, port, soleOf } = allocation;
    holds(client.key === key, `${key} finds its own allocation`);
    holds(byPort.get(port) === allocation, `port ${port} finds its allocation`);
    if (soleOf !== undefined) {
      sole++;
      holds(byUsername.get(soleOf) === allocation, `${soleOf} finds its allocation`);
    }
    holds(deadlines.of(allocation) === allocation.expiresAt, `${key} ends at its deadline`);
    holds(table.nextDeadline <= allocation.expiresAt, `${key} ends in time`);
    channels += checkChannels(allocation, (channel) => deadlines.of(channel));
  }
  holds(byUsername.size === sole, "no user without an allocation is remembered");
  holds(table.channelCount === channels, "channels are counted");
  holds(deadlines.size === byClient.size + channels, "nothing that is gone has a deadline");
}

function checkChannels(
  allocation: RelayAllocation,
  deadlineOf: (channel: Channel) => Millis,
): number {
  const { channels, channelsByPeer, families } = allocation;
  const name = allocation.client.key;
  holds(channels.size === channelsByPeer.size, `${name}: numbers and peers match`);
  for (const [number, channel] of channels) {
    const { peer, isBound, expiresAt } = channel;
    holds(channel.number === number, `${name}: ${number} finds its own channel`);
    holds(channelsByPeer.get(peer.key) === channel, `${name}: ${peer} finds its channel`);
    holds(channel.allocation === allocation, `${name}: ${number} belongs to it`);
    holds(families.includes(peer.family), `${name}: ${peer} is of a granted family`);
    const endsAt = isBound ? expiresAt : after(expiresAt, CHANNEL_COOLDOWN_MS);
    holds(deadlineOf(channel) === endsAt, `${name}: ${number} ends at its deadline`);
  }
  return channels.size;
}

function holds(condition: boolean, what: string): asserts condition {
  if (!condition) throw new InvariantError(`Does not hold: ${what}`);
}
