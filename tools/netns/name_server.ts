/**
 * A DNS server, asked over UDP and TCP: `name_server.ts RECORDS ADDRESS…`.
 *
 * RECORDS is JSON: data by name and type, such as `{"wiki.test": {"A": ["10.0.0.1"]}}`. Other types
 * of these names are empty, other names do not exist. Prints `listening` once all addresses are
 * bound.
 * @module
 */

import packet from "dns-packet";
import { fakeServer } from "../../core/testing/fake_dns.ts";

/** What a server knows: data by name and type. */
export type Records = Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;

const NAME_ERROR = 3;
const MAX_UDP_BYTES = 512;
const TTL_S = 60;

if (import.meta.main) {
  const [text, ...addresses] = Deno.args;
  const records: Records = JSON.parse(text!);
  for (const address of addresses) {
    await fakeServer(address, 53, ({ name, type }, transport) => {
      const types = records[name.toLowerCase()];
      if (types === undefined) return { flags: packet.RECURSION_AVAILABLE | NAME_ERROR };
      const answers = (types[type] ?? []).map((data) => ({ type, name, ttl: TTL_S, data }));
      const isLong = packet.encode({ type: "response", answers }).length > MAX_UDP_BYTES;
      if (transport === "tcp" || !isLong) return { answers };
      return { flags: packet.RECURSION_AVAILABLE | packet.TRUNCATED_RESPONSE };
    });
  }
  console.log("listening");
}
