/**
 * The functions of OpenSSL's libcrypto that the cipher needs, by FFI.
 *
 * Calls stay on V8's fast path: 4 ns with `pointer` parameters, and 5 ns more for each `buffer`
 * among them. Addresses as `usize` numbers leave it, which costs 100 ns per call on Deno 2.9; so does
 * a `buffer` that was made just before the call. Hence addresses that are kept (`pointer_cache.ts`)
 * for packets, and the twins with buffers for all else.
 *
 * The library is loaded with this module and stays for the life of the process. Where it is missing
 * or FFI is not allowed there is none, quietly: other backends stand in.
 * @module
 */

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
  // ctx, command, bytes, data
  EVP_CIPHER_CTX_ctrl: { parameters: ["pointer", "i32", "i32", "pointer"], result: "i32" },
  OpenSSL_version: { parameters: ["i32"], result: "pointer" },
} as const;

/** Gets the tag after sealing. */
export const EVP_CTRL_AEAD_GET_TAG = 0x10;

/** Sets the tag before opening. */
export const EVP_CTRL_AEAD_SET_TAG = 0x11;

/** The loaded library. */
export interface Libcrypto {
  /** File name and version, for the log. */
  readonly detail: string;
  /** Its functions, named as in C. */
  readonly symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
}

/** The library, or `undefined` where there is none. */
export const libcrypto: Libcrypto | undefined = load();

/** Where to look; only on Linux does the system carry one that programs may rely on. */
function candidates(): string[] {
  return Deno.build.os === "linux" ? ["libcrypto.so.3", "libcrypto.so.1.1"] : [];
}

function load(): Libcrypto | undefined {
  for (const name of candidates()) {
    // Asked first, because opening without the permission would ask the person at the terminal.
    if (Deno.permissions.querySync({ name: "ffi", path: name }).state !== "granted") continue;
    try {
      const { symbols } = Deno.dlopen(name, SYMBOLS);
      const version = symbols.OpenSSL_version(0);
      const text = version === null ? "" : new Deno.UnsafePointerView(version).getCString();
      return { detail: text === "" ? name : `${name}, ${text}`, symbols };
    } catch {
      // Not installed, or of another architecture: the next name, then the next backend.
    }
  }
  return undefined;
}
