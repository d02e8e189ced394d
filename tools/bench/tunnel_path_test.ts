import { assert } from "@std/assert";
import { AEAD_NAMES, loadAead } from "@firezone/core/crypto";
import { measurePath } from "./tunnel_path.ts";

const available = AEAD_NAMES.filter((name) => loadAead(name) !== undefined);
const native = available.filter((name) => name === "ipsec-mb" || name === "libcrypto");

Deno.test("the packet path makes less than 32 bytes of garbage per packet", {
  ignore: native.length === 0, // the others make some for every packet
}, () => {
  for (const name of native) {
    const { send, receive } = measurePath(40, name);
    assert(send.heapBytes < 32, `${name}, sending: ${send.heapBytes} bytes`);
    assert(receive.heapBytes < 32, `${name}, receiving: ${receive.heapBytes} bytes`);
  }
});

Deno.test("the packet path carries packets with every backend", () => {
  for (const name of available) measurePath(1, name);
});
