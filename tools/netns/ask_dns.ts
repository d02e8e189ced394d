/**
 * Asks a DNS server: `ask_dns.ts udp|tcp SERVER NAME TYPE` prints what it answers as `RCODE: data`.
 * @module
 */

import { askTcp, askUdp, queryBytes } from "../../core/testing/fake_dns.ts";

const LIMIT_MS = 10_000;

if (import.meta.main) {
  const [transport, server, name, type] = Deno.args;
  setTimeout(() => {
    console.log("silence");
    Deno.exit(1);
  }, LIMIT_MS);
  const query = queryBytes(name!, type!);
  const answer = transport === "udp"
    ? await askUdp(server!, 53, query)
    : (await askTcp(server!, 53, query))[0] ?? "nothing";
  console.log(answer);
  Deno.exit();
}
