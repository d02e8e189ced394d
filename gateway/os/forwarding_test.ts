import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { NfTables, Sysctls } from "@firezone/core/os/linux";
import { TestNetns } from "../../core/os/linux/testing/netns.ts";
import { requires } from "../../tests/requirements.ts";
import { setUpForwarding, TABLE_NAME } from "./forwarding.ts";

Deno.test({
  name: "setUpForwarding masquerades clients and switches forwarding on, until it is undone",
  ...requires("linux", "root", "namespaces", "ip", "nft"),
  fn() {
    using ns = new TestNetns("fw");
    ns.enter(() => {
      const forwarding = () => new Sysctls().read("net/ipv4/ip_forward");
      const tables = () => {
        using netfilter = new NfTables();
        return netfilter.tables().map((table) => table.name);
      };
      assertEquals(forwarding(), "0");
      const undo = setUpForwarding("tun-firezone");
      assertEquals(tables(), [TABLE_NAME]);
      assertEquals(forwarding(), "1");
      const listing = new Deno.Command("nft", { args: ["list", "ruleset"] }).outputSync();
      const ruleset = new TextDecoder().decode(listing.stdout);
      for (const clients of ["ip saddr 100.64.0.0/11", "ip6 saddr fd00:2021:1111::/107"]) {
        assert(
          ruleset.includes(`${clients} oifname != "tun-firezone" masquerade`),
          ruleset,
        );
      }
      undo();
      assertEquals(tables(), []);
      assertEquals(forwarding(), "0");
    });
  },
});

Deno.test({
  name: "where no table can be written the gateway names the way out",
  ...requires("linux", "root", "namespaces", "ip", "nft"),
  fn() {
    using ns = new TestNetns("fw-held");
    ns.enter(() => {
      // A table that another process owns may be changed by nobody else.
      using holder = new NfTables();
      holder.replaceTable({ family: "inet", name: TABLE_NAME, chains: [] }, true);
      const error = assertThrows(() => setUpForwarding("tun-firezone"), ConfigError);
      assertMatch(error.message, /^Cannot masquerade: .*--no-masquerade/);
    });
  },
});

Deno.test({
  name: "setUpForwarding puts back what a gateway that was killed had switched on",
  ...requires("linux", "root", "namespaces", "ip"),
  fn() {
    const journal = Deno.makeTempFileSync();
    using ns = new TestNetns("fw-kill");
    ns.enter(() => {
      const forwarding = () => new Sysctls().read("net/ipv4/ip_forward");
      const killed = new Sysctls({ journal });
      killed.write("net/ipv4/ip_forward", "1");
      setUpForwarding("tun-firezone", journal)();
      assertEquals(forwarding(), "0");
    });
    assertThrows(() => Deno.statSync(journal), Deno.errors.NotFound);
  },
});
