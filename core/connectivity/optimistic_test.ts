import { assertEquals } from "@std/assert";
import { Candidate } from "../ice/mod.ts";
import { socketAddress } from "../ip/address.ts";
import { optimisticCandidates } from "./optimistic.ts";
import { World } from "./testing/world.ts";

const HOST = Candidate.host(socketAddress("192.168.1.2:52625"));
const HOST6 = Candidate.host(socketAddress("[2001:db8::2]:52625"));
const REFLEXIVE = reflexive("198.51.100.1:4000", "192.168.1.2:52625");
const REFLEXIVE6 = reflexive("[2001:db8::9]:4000", "[2001:db8::2]:52625");

Deno.test("the public address and the port that is listened on are guessed, in either order", () => {
  const guess = "srflx 198.51.100.1:52625";
  assertEquals(optimisticCandidates(REFLEXIVE, [HOST]).map(({ key }) => key), [guess]);
  assertEquals(optimisticCandidates(HOST, [REFLEXIVE]).map(({ key }) => key), [guess]);
});

Deno.test("nothing is guessed across families, in IPv6, from relays, or where it is known already", () => {
  assertEquals(optimisticCandidates(REFLEXIVE, [HOST6]), []);
  assertEquals(optimisticCandidates(REFLEXIVE6, [HOST6, HOST]), []);
  assertEquals(
    optimisticCandidates(REFLEXIVE, [Candidate.relayed(socketAddress("203.0.113.1:1"))]),
    [],
  );
  assertEquals(
    optimisticCandidates(reflexive("198.51.100.1:52625", "192.168.1.2:52625"), [HOST]),
    [],
  );
});

Deno.test("a connection adds two guesses at most", () => {
  const world = new World();
  world.network.runFor(200);
  world.upsert("client");
  const hosts = [1, 2, 3, 4].map((n) =>
    Candidate.host(socketAddress(`10.0.0.${n}:100${n}`)).toSdp()
  );
  world.client.node.addRemoteCandidates(world.network.now, "gateway", [
    ...hosts,
    REFLEXIVE.toSdp(),
  ]);
  const remotes = world.client.node.connection("gateway")!.agent.remoteCandidates;
  assertEquals(remotes.length, hosts.length + 1 + 2);
});

function reflexive(address: string, base: string): Candidate {
  return Candidate.serverReflexive(socketAddress(address), socketAddress(base));
}
