import { assert } from "@std/assert";
import { AEAD_NAMES, loadAead } from "@firezone/core/crypto";
import { measurePath } from "./tunnel_path.ts";

const available = AEAD_NAMES.filter((name) => loadAead(name) !== undefined);

Deno.test("the packet path makes less than 32 bytes of garbage per packet", {
  ignore: !available.includes("libcrypto"), // the others make some for every packet
}, () => {
  const { send, receive } = measurePath(40);
  assert(send.heapBytes < 32, `sending: ${send.heapBytes} bytes`);
  assert(receive.heapBytes < 32, `receiving: ${receive.heapBytes} bytes`);
});

Deno.test("the packet path carries packets with every backend", () => {
  for (const name of available) measurePath(1, name);
});
