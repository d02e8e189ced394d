import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ip } from "../../ip/address.ts";
import { parseResolvConf, withNameservers } from "./resolv_conf.ts";

const HEADER = "# ours";

Deno.test("parseResolvConf reads servers and search domains, and passes over the rest", () => {
  const text = [
    "; comment",
    "# nameserver 192.0.2.9",
    " nameserver 192.0.2.8",
    "nameserver 192.0.2.1 # the first",
    "nameserver\t2001:db8::1",
    "nameserver fe80::1%eth0",
    "nameserver fe80::1",
    "nameserver fe80::1%wlan0",
    "nameserver 2001:db8::1%eth0",
    "nameserver 192.0.2.1",
    "nameserver nonsense",
    "nameserver",
    "search old.example",
    "search a.example b.example",
    "options edns0 trust-ad",
  ].join("\n");
  const { nameservers, search } = parseResolvConf(text);
  assertEquals(nameservers.map(String), [
    "192.0.2.1",
    "2001:db8::1",
    "fe80::1%eth0",
    "fe80::1%wlan0",
  ]);
  assertEquals(search, ["a.example", "b.example"]);
  assertEquals(parseResolvConf("domain example.com\n").search, ["example.com"]);
});

Deno.test("withNameservers replaces the servers alone", () => {
  const text =
    "# by hand\nnameserver 192.0.2.1\noptions edns0\nsearch a.example\nnameserver ::1\n\n";
  const servers = [ip("100.100.111.1"), ip("fd00::1")];
  assertEquals(
    withNameservers(text, HEADER, servers, undefined),
    "# ours\nnameserver 100.100.111.1\nnameserver fd00::1\n# by hand\noptions edns0\nsearch a.example\n",
  );
  assertEquals(
    withNameservers(text, HEADER, servers, "corp.example"),
    "# ours\nnameserver 100.100.111.1\nnameserver fd00::1\nsearch corp.example a.example\n" +
      "# by hand\noptions edns0\n",
  );
  assertEquals(
    withNameservers("", HEADER, servers.slice(1), undefined),
    "# ours\nnameserver fd00::1\n",
  );
});

Deno.test("any file is read, and rewritten so that it names our servers and no others", () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom("nameserver 192.0.2.1", "search x y", "options a", "domain z", "nameserver"),
  );
  fc.assert(fc.property(fc.array(line), fc.boolean(), (lines, withSearch) => {
    const text = lines.join("\n");
    const ours = [ip("100.100.111.1")];
    const rewritten = withNameservers(text, HEADER, ours, withSearch ? "corp.example" : undefined);
    const { nameservers, search } = parseResolvConf(rewritten);
    assertEquals(nameservers.map(String), ["100.100.111.1"]);
    assert(rewritten.startsWith(HEADER) && rewritten.endsWith("\n"));
    const before = parseResolvConf(text).search;
    assertEquals(
      search,
      withSearch ? [...new Set(["corp.example", ...before])] : before,
    );
  }));
});
