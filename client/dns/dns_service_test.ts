import { assertEquals } from "@std/assert";
import { connect, TestNetns } from "../../core/os/linux/testing/netns.ts";
import { requires } from "../../tests/requirements.ts";

Deno.test({
  name:
    "DnsService answers on the sentinels of a TUN device, by UDP and TCP, and forwards the rest",
  ...requires("linux", "root", "namespaces", "tun", "ip"),
  fn() {
    using ns = new TestNetns("dnst");
    using neighbour = new TestNetns("dnst");
    connect(
      { ns, name: "lan0", addresses: ["192.0.2.1/24"] },
      { ns: neighbour, name: "lan0", addresses: ["192.0.2.2/24"] },
    );
    neighbour.ip("route", "add", "100.100.111.0/24", "via", "192.0.2.1");
    const folder = Deno.makeTempDirSync();
    try {
      const machine = new URL("testdata/machine.ts", import.meta.url).pathname;
      const out = ns.exec(
        Deno.execPath(),
        "run",
        "-A",
        machine,
        `${folder}/records.json`,
        neighbour.name,
      );
      const v4 = "100.96.0.1,100.96.0.2,100.96.0.3,100.96.0.4";
      const v6 = [1, 2, 3, 4].map((n) => `fd00:2021:1111:8000::${n}`).join();
      assertEquals(JSON.parse(out), {
        "sentinels": ["100.100.111.1", "fd00:2021:1111:8000:100:100:111:1", "100.100.111.2"],
        "resource": `NOERROR: ${v4}`,
        "resource by IPv6": `NOERROR: ${v6}`,
        "resource by TCP": [`NOERROR: ${v4}`, "NOERROR:"],
        "resolved": new Array(3).fill("db.example.com 100.96.0.1 r1"),
        "forwarded": "NOERROR: 192.0.2.4",
        "forwarded by IPv6": "NOERROR: 192.0.2.6",
        "forwarded by TCP": ["NOERROR: 192.0.2.6"],
        "long": "NOERROR: (truncated)",
        "long by TCP": 60,
        "through a site without gateway": "SERVFAIL:",
        "cached": ["NOERROR: 192.0.2.4", 2],
        "neighbour": ["192.0.2.2", "silence"],
        "silent": ["nothing yet", "SERVFAIL:"],
        "sentinels of the portal's servers": ["100.100.111.3"],
        "in the tunnel": ["100.64.0.1", "10.9.9.9"],
        "in the tunnel, no answer": "SERVFAIL:",
        "the portal's own name": "NOERROR: 192.0.2.4",
        "the portal's own name, nothing but the tunnel": "SERVFAIL:",
        "over HTTPS": ["100.100.111.1", "NOERROR: 192.0.2.7", 1],
        "kept": ["db.example.com 100.96.0.1 r2"],
      });
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
});
