import { assert, assertEquals } from "@std/assert";
import { libcrypto } from "./libcrypto.ts";

const OPENSSL_CPU_INFO = 9;
const IFMA = 1n << 21n;
const VARIABLE = "OPENSSL_ia32cap";
const needs = { ignore: libcrypto === undefined || Deno.build.arch !== "x86_64" };

/** What the loaded library believes of CPUID leaf 7: EBX, then ECX. */
function leaf7(): bigint | undefined {
  const text = libcrypto!.symbols.OpenSSL_version(OPENSSL_CPU_INFO);
  if (text === null) return undefined;
  const words = new Deno.UnsafePointerView(text).getCString().match(/0x[0-9a-f]+:(0x[0-9a-f]+)/);
  return words === null ? undefined : BigInt(words[1]!);
}

Deno.test(
  "libcrypto does not use AVX-512 IFMA, and its children know nothing of that",
  needs,
  () => {
    const bits = leaf7();
    assert(bits !== undefined);
    assertEquals(bits & IFMA, 0n);
    assertEquals(Deno.env.get(VARIABLE), undefined);
  },
);

Deno.test("libcrypto uses what the user says that it may use", needs, async () => {
  const script = `
    const { libcrypto } = await import(${JSON.stringify(import.meta.resolve("./libcrypto.ts"))});
    const text = libcrypto.symbols.OpenSSL_version(${OPENSSL_CPU_INFO});
    console.log(Deno.env.get("${VARIABLE}"), new Deno.UnsafePointerView(text).getCString());`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
    env: { [VARIABLE]: ":~0x40000000" },
  }).output();
  const [variable, ...info] = new TextDecoder().decode(stdout).trim().split(" ");
  assertEquals(variable, ":~0x40000000");
  assert(info.join(" ").endsWith("env::~0x40000000"), info.join(" "));
});
