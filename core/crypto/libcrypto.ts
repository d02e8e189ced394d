/**
 * The functions of OpenSSL 3's libcrypto that the cipher needs, by FFI.
 *
 * Calls stay on V8's fast path: 4 ns with `pointer` parameters, and 5 ns more for each `buffer`
 * among them. Addresses as `usize` numbers leave it, which costs 100 ns per call on Deno 2.9; so does
 * a `buffer` that was made just before the call. Hence addresses that are kept (`pointer_cache.ts`)
 * for packets, and the twins with buffers for all else.
 *
 * Parameters by number (`EVP_CIPHER_CTX_ctrl`) are translated into parameters by name at each call,
 * which costs more than the name.
 *
 * The library is loaded with this module and stays for the life of the process. Where it is missing
 * or FFI is not allowed there is none, quietly: other backends stand in.
 * @module
 */

import { openLibrary } from "./native_library.ts";

const SYMBOLS = {
  EVP_CIPHER_CTX_new: { parameters: [], result: "pointer" },
  EVP_CIPHER_CTX_free: { parameters: ["pointer"], result: "void" },
  EVP_chacha20_poly1305: { parameters: [], result: "pointer" },
  // ctx, cipher or null to keep it, engine, key or null, iv or null, 1 seal / 0 open / -1 as it was
  EVP_CipherInit_ex: {
    parameters: ["pointer", "pointer", "pointer", "pointer", "pointer", "i32"],
    result: "i32",
  },
  initBuffers: {
    name: "EVP_CipherInit_ex",
    parameters: ["pointer", "pointer", "pointer", "buffer", "buffer", "i32"],
    result: "i32",
  },
  // ctx, out (null: `in` is associated data), in, bytes
  EVP_Cipher: { parameters: ["pointer", "pointer", "pointer", "u32"], result: "i32" },
  cipherBuffers: {
    name: "EVP_Cipher",
    parameters: ["pointer", "buffer", "buffer", "u32"],
    result: "i32",
  },
  // ctx, out, number of bytes written to it; 1 unless the tag is wrong
  EVP_CipherFinal_ex: { parameters: ["pointer", "pointer", "pointer"], result: "i32" },
  // ctx, array of OSSL_PARAM
  EVP_CIPHER_CTX_get_params: { parameters: ["pointer", "pointer"], result: "i32" },
  EVP_CIPHER_CTX_set_params: { parameters: ["pointer", "pointer"], result: "i32" },
  OpenSSL_version: { parameters: ["i32"], result: "pointer" },
} as const;

const OSSL_PARAM_OCTET_STRING = 5;

/** The loaded library. */
export interface Libcrypto {
  /** File name and version, for the log. */
  readonly detail: string;
  /** Its functions, named as in C. */
  readonly symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
}

/** The library, or `undefined` where there is none. */
export const libcrypto: Libcrypto | undefined = loadWithoutIfma();

/**
 * An array of one OSSL_PARAM, an octet string: what takes a parameter by name reads it.
 *
 *     0     8      16     24     32            40
 *     | key | type | data | size | return size | key 0, which ends the array
 *
 * @param value held, and read or written whenever the parameter is used; larger than 64 bytes, or the
 *   garbage collector moves it
 */
export function octetStringParameter(
  name: string,
  value: Uint8Array<ArrayBuffer>,
  length: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(192);
  const nameAt = 128;
  new TextEncoder().encodeInto(name, bytes.subarray(nameAt));
  const address = (array: Uint8Array<ArrayBuffer>) =>
    Deno.UnsafePointer.value(Deno.UnsafePointer.of(array));
  const words = new BigUint64Array(bytes.buffer);
  words[0] = address(bytes) + BigInt(nameAt);
  words[1] = BigInt(OSSL_PARAM_OCTET_STRING);
  words[2] = address(value);
  words[3] = BigInt(length);
  return bytes;
}

/**
 * Loads the library with AVX-512 IFMA hidden from it (the manual page OPENSSL_ia32cap(3)).
 *
 * With it Poly1305 computes eight powers of each packet's key first, which a packet is too short to
 * make up for: a quarter of all time for 1280 bytes, see `docs/performance.md`. Who has set the
 * variable knows better.
 */
function loadWithoutIfma(): Libcrypto | undefined {
  const variable = "OPENSSL_ia32cap";
  const isOurs = Deno.build.arch === "x86_64" &&
    Deno.permissions.querySync({ name: "env", variable }).state === "granted" &&
    Deno.env.get(variable) === undefined;
  if (!isOurs) return load();
  Deno.env.set(variable, ":~0x200000"); // bit 21 of CPUID leaf 7, EBX
  try {
    return load();
  } finally {
    Deno.env.delete(variable); // no business of the programs that we start
  }
}

function load(): Libcrypto | undefined {
  if (Deno.build.os !== "linux") return undefined; // only there programs may rely on the system's
  const name = "libcrypto.so.3";
  const symbols = openLibrary(name, SYMBOLS);
  if (symbols === undefined) return undefined;
  const version = symbols.OpenSSL_version(0);
  const text = version === null ? "" : new Deno.UnsafePointerView(version).getCString();
  return { detail: text === "" ? name : `${name}, ${text}`, symbols };
}
