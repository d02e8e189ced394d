// What a call costs, by the way its parameters are declared; the figures in libc.ts come from here.
// `read` of a closed descriptor fails at once, so the rest is the call itself.

import { errno, libc } from "./libc.ts";
import { addressOf } from "./memory.ts";

const buffer = new Uint8Array(4096);
const pointer = Deno.UnsafePointer.of(buffer);
const other = Deno.dlopen("libc.so.6", {
  getppid: { parameters: [], result: "i32" },
  readUsize: { name: "read", parameters: ["i32", "buffer", "usize"], result: "i32" },
  readPointer: { name: "read", parameters: ["i32", "pointer", "u32"], result: "i32" },
  readIsize: { name: "read", parameters: ["i32", "buffer", "usize"], result: "isize" },
}).symbols;

Deno.bench("getppid", { group: "call", baseline: true }, () => void other.getppid());
Deno.bench("read, u32 length (ours)", { group: "call" }, () => void libc.read(-1, buffer, 10));
Deno.bench("read, usize length from a BigInt", { group: "call" }, () => {
  other.readUsize(-1, buffer, 10n);
});
Deno.bench("read, usize length from a number", { group: "call" }, () => {
  other.readUsize(-1, buffer, 10 as unknown as bigint);
});
Deno.bench("read, pointer", { group: "call" }, () => void other.readPointer(-1, pointer, 10));
Deno.bench("read, isize result", { group: "call" }, () => void other.readIsize(-1, buffer, 10n));
Deno.bench("read, subarray", { group: "call" }, () => {
  libc.read(-1, buffer.subarray(100), 10);
});

Deno.bench("errno, mapped once (ours)", { group: "errno", baseline: true }, () => void errno());
Deno.bench("errno, fresh view", { group: "errno" }, () => {
  new Deno.UnsafePointerView(libc.__errno_location()!).getInt32();
});

Deno.bench("address of a buffer", () => void addressOf(buffer.buffer));
