import { assertEquals } from "@std/assert";
import { ip, PacketRef } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import { Peer } from "./peer.ts";
import { PeerTable } from "./peer_table.ts";

const random = seededRandom(1);

Deno.test("a client is found by its id and by both of its addresses", () => {
  const table = new PeerTable();
  const [one, two] = [peer("one", 1), peer("two", 2)];
  table.put(one);
  table.put(two);
  assertEquals([table.get("one"), table.get("two"), table.size], [one, two, 2]);
  assertEquals(at(table, "100.64.0.1"), one);
  assertEquals(at(table, "fd00:2021:1111::2"), two);
  assertEquals(at(table, "100.64.0.3"), undefined);
  const addresses = new Uint8Array([...one.ipv4.bytes, ...two.ipv4.bytes]);
  const packet = new PacketRef();
  [packet.sourceOffset, packet.destinationOffset] = [0, 4];
  assertEquals(table.sourceOf(addresses, packet), one);
  assertEquals(table.destinationOf(addresses, packet), two);
  assertEquals([...table], [one, two]);
});

Deno.test("a client that goes leaves nothing behind, and its place is used again", () => {
  const table = new PeerTable();
  for (let round = 0; round < 3; round++) {
    for (let n = 1; n <= 5; n++) table.put(peer(`${n}`, n));
    for (let n = 1; n <= 5; n += 2) table.delete(`${n}`);
    assertEquals([1, 2, 3, 4, 5].map((n) => at(table, `100.64.0.${n}`)?.clientId), [
      undefined,
      "2",
      undefined,
      "4",
      undefined,
    ]);
    table.delete("1");
  }
  assertEquals(table.size, 2);
});

Deno.test("a client with other addresses, and addresses of another client, belong to the newer", () => {
  const table = new PeerTable();
  table.put(peer("one", 1));
  const moved = peer("one", 2);
  table.put(moved);
  assertEquals([at(table, "100.64.0.1"), at(table, "100.64.0.2")], [undefined, moved]);
  const heir = peer("heir", 2);
  table.put(heir);
  for (const address of ["100.64.0.2", "fd00:2021:1111::2"]) {
    assertEquals(at(table, address), heir);
  }
  table.delete("one");
  for (const address of ["100.64.0.2", "fd00:2021:1111::2"]) {
    assertEquals(at(table, address), heir);
  }
  assertEquals(at(table, "fd00:2021:1112::2"), undefined, "the last bits alone are not enough");
});

function peer(id: string, n: number): Peer {
  return new Peer(id, { ipv4: ip(`100.64.0.${n}`), ipv6: ip(`fd00:2021:1111::${n}`) }, random);
}

function at(table: PeerTable, address: string): Peer | undefined {
  const { bytes, family } = ip(address);
  const packet = new PacketRef();
  packet.version = family;
  return table.destinationOf(bytes, packet);
}
