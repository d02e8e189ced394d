/**
 * Two agents on a small simulated Internet in virtual time, for the tests of this room alone.
 *
 * An end may sit behind a NAT and may hold relayed addresses; what is sent from those leaves at the
 * relay, and what is sent to them arrives without regard to the NAT.
 * @module
 */

import { assert } from "@std/assert";
import { type SocketAddress, socketAddress } from "../../ip/address.ts";
import { parseStunMessage } from "../../stun/mod.ts";
import { Nat, type NatOptions } from "../../testing/nat.ts";
import { seededRandom } from "../../testing/random.ts";
import type { Transmit } from "../../transmit.ts";
import { after, earlier, type Millis, NEVER } from "../../units.ts";
import { IceAgent, type IceEvent, type IceState } from "../agent.ts";
import type { IceCredentials } from "../binding.ts";
import { Candidate } from "../candidate.ts";
import { parseCandidate } from "../candidate_sdp.ts";
import type { IceTiming } from "../timing.ts";

/** The client's schedule. */
export const CLIENT: IceTiming = { initialRtoMs: 250, maxRtoMs: 1500, retransmits: 12 };
/** The client's schedule while no data flows. */
export const CLIENT_IDLE: IceTiming = { initialRtoMs: 25_000, maxRtoMs: 25_000, retransmits: 4 };
/** The gateway's schedule. */
export const GATEWAY: IceTiming = { initialRtoMs: 250, maxRtoMs: 15_000, retransmits: 45 };
/** The gateway's schedule while no data flows. */
export const GATEWAY_IDLE: IceTiming = { initialRtoMs: 25_000, maxRtoMs: 25_000, retransmits: 40 };

/** Credentials of the two ends, cut as the portal cuts them. */
export const CREDENTIALS: { readonly client: IceCredentials; readonly gateway: IceCredentials } = {
  client: { username: "mhk3", password: "xeez6p6qyqmqw43xdyu2q7" },
  gateway: { username: "wjgw", password: "kwomcb6zu3gppp5absmcva" },
};

const STUN_SERVER = socketAddress("203.0.113.1:3478");
const DELAY_MS = 10;
const RELAY_DELAY_MS = 25;

/** How an end is made. */
export interface EndOptions {
  /** Default: the first one does. */
  readonly controlling?: boolean;
  /** Default: {@link CLIENT} for the controlling end, {@link GATEWAY} for the other. */
  readonly timing?: IceTiming;
  /** Behind a NAT with this address. */
  readonly nat?: { readonly ip: string; readonly options: NatOptions };
  /** Relayed addresses that it holds. */
  readonly relayed?: readonly string[];
  /** Who it says it is. */
  readonly local?: IceCredentials;
  /** Whom it talks to. */
  readonly remote?: IceCredentials;
}

/** One agent with its place in the network. */
export class End {
  /** Its agent. */
  readonly agent: IceAgent;
  /** Everything that {@link IceAgent.pollEvent} told, with the time. */
  readonly events: (IceEvent & { readonly at: Millis })[] = [];
  /** Everything it sent, with the time. */
  readonly sent: { readonly at: Millis; readonly transmit: Transmit }[] = [];
  /** Its NAT. */
  readonly nat: Nat | undefined;
  /** Its own address. */
  readonly host: SocketAddress;
  /** Its addresses at relays. */
  readonly relayed: readonly SocketAddress[];

  constructor(
    readonly name: "client" | "gateway",
    host: string,
    options: EndOptions,
    seed: number,
  ) {
    const controlling = options.controlling ?? name === "client";
    const other = name === "client" ? "gateway" : "client";
    this.host = socketAddress(host);
    this.relayed = (options.relayed ?? []).map(socketAddress);
    const { nat } = options;
    const random = seededRandom(seed);
    this.nat = nat && new Nat(socketAddress(`${nat.ip}:1`).ip, nat.options, random);
    this.agent = new IceAgent({
      controlling,
      local: options.local ?? CREDENTIALS[name],
      remote: options.remote ?? CREDENTIALS[other],
      random,
      timing: options.timing ?? (controlling ? CLIENT : GATEWAY),
    });
  }

  /** Changes of state with their times. */
  get states(): [IceState, Millis][] {
    return this.events.flatMap((e): [IceState, Millis][] =>
      e.tag === "state" ? [[e.state, e.at]] : []
    );
  }

  /** Where data goes: `base > address`. */
  get path(): string | undefined {
    const pair = this.agent.nominated;
    return pair && `${pair.local.base.key} > ${pair.remote.address.key}`;
  }

  /** All the paths that were nominated, in order. */
  get paths(): string[] {
    return this.events.flatMap((e) =>
      e.tag === "nominated" ? [`${e.local.base.key} > ${e.remote.address.key}`] : []
    );
  }
}

interface Flying {
  readonly at: Millis;
  readonly from: SocketAddress;
  readonly to: SocketAddress;
  readonly payload: Uint8Array;
}

/** See the head of this file. */
export class World {
  /** The present. */
  now: Millis = 1000 as Millis;
  /** Datagrams for which this holds are lost; addresses are those seen on the Internet. */
  isLost: (from: SocketAddress, to: SocketAddress) => boolean = () => false;
  /** Both ends, the client first. */
  readonly ends: readonly [End, End];
  readonly #flying: Flying[] = [];

  constructor(client: EndOptions = {}, gateway: EndOptions = {}, seed = 1) {
    this.ends = [
      new End("client", client.nat ? "192.168.1.2:52625" : "198.51.100.2:52625", client, seed),
      new End("gateway", gateway.nat ? "10.0.0.2:52625" : "198.51.100.3:52625", gateway, seed + 1),
    ];
  }

  /** The controlling end by default. */
  get client(): End {
    return this.ends[0];
  }

  /** The controlled end by default. */
  get gateway(): End {
    return this.ends[1];
  }

  /** What an end can gather, the best first. */
  gather(end: End): Candidate[] {
    const candidates = [Candidate.host(end.host)];
    if (end.nat) {
      const mapped = end.nat.translateOutbound(this.now, end.host, STUN_SERVER);
      candidates.push(Candidate.serverReflexive(mapped, end.host));
    }
    return [...candidates, ...end.relayed.map((address) => Candidate.relayed(address, end.host))];
  }

  /** Gives candidates to their end, and to the other one through their text form. */
  trickle(end: End, candidates: readonly Candidate[]): void {
    const other = end === this.client ? this.gateway : this.client;
    for (const candidate of candidates) {
      if (!end.agent.addLocalCandidate(this.now, candidate)) continue;
      const parsed = parseCandidate(candidate.toSdp(end.agent.username.split(":")[0]));
      assert(parsed && other.agent.addRemoteCandidate(this.now, parsed));
    }
    this.#drain();
  }

  /** Gathers and trickles everything at both ends. */
  trickleAll(): void {
    for (const end of this.ends) this.trickle(end, this.gather(end));
  }

  /** Lets time pass. */
  run(durationMs: number): void {
    const until = after(this.now, durationMs);
    let rounds = 0;
    while (true) {
      let next = this.#flying.reduce((at, datagram) => earlier(at, datagram.at), NEVER);
      for (const end of this.ends) next = earlier(next, end.agent.pollTimeout());
      if (next > until) break;
      assert(++rounds < 100_000, "time stands still");
      if (next > this.now) this.now = next;
      this.#deliver();
      for (const end of this.ends) {
        if (end.agent.pollTimeout() <= this.now) end.agent.handleTimeout(this.now);
        this.#drain();
      }
    }
    this.now = until;
  }

  /** Runs until a condition holds; returns how long that took. */
  runUntil(condition: () => boolean, limitMs = 60_000): number {
    const start = this.now;
    while (!condition()) {
      assert(this.now - start < limitMs, "it does not come to pass");
      this.run(1);
    }
    return this.now - start;
  }

  #drain(): void {
    for (const end of this.ends) {
      for (let event; (event = end.agent.pollEvent());) end.events.push({ ...event, at: this.now });
      for (let transmit; (transmit = end.agent.pollTransmit());) this.#depart(end, transmit);
    }
  }

  #depart(end: End, transmit: Transmit): void {
    end.sent.push({ at: this.now, transmit });
    const { source, destination, payload } = transmit;
    assert(source, "the agent always knows where from");
    const isRelayed = end.relayed.some((address) => address.equals(source));
    assert(isRelayed || source.equals(end.host), "sends from its base");
    const from = isRelayed
      ? source
      : end.nat?.translateOutbound(this.now, source, destination) ?? source;
    if (this.isLost(from, destination)) return;
    const toRelay = this.ends.some((e) => e.relayed.some((a) => a.equals(destination)));
    const delay = DELAY_MS + (isRelayed ? RELAY_DELAY_MS : 0) + (toRelay ? RELAY_DELAY_MS : 0);
    this.#flying.push({ at: after(this.now, delay), from, to: destination, payload });
  }

  #deliver(): void {
    for (const datagram of [...this.#flying]) {
      if (datagram.at > this.now) continue;
      this.#flying.splice(this.#flying.indexOf(datagram), 1);
      for (const end of this.ends) {
        const local = this.#localAt(end, datagram);
        const message = parseStunMessage(datagram.payload, 0, datagram.payload.length);
        assert(message);
        if (local) end.agent.handleStun(this.now, local, datagram.from, message);
      }
      this.#drain();
    }
  }

  /** The address at which a datagram reaches an end, if it does. */
  #localAt(end: End, { from, to }: Flying): SocketAddress | undefined {
    const relayed = end.relayed.find((address) => address.equals(to));
    if (relayed) return relayed;
    if (end.nat) return end.nat.translateInbound(this.now, from, to);
    return to.equals(end.host) ? end.host : undefined;
  }
}
