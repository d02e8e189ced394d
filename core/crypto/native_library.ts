/**
 * Libraries of the system, where they are and may be used.
 * @module
 */

/**
 * The functions of a library, or `undefined` where it is not installed, is for another architecture,
 * lacks one of them, or FFI is not allowed. It stays for the life of the process.
 *
 * @param name as the dynamic linker knows it
 */
export function openLibrary<const S extends Deno.ForeignLibraryInterface>(
  name: string,
  symbols: S,
): Deno.DynamicLibrary<S>["symbols"] | undefined {
  // Asked first, because opening without the permission would ask the person at the terminal.
  if (Deno.permissions.querySync({ name: "ffi", path: name }).state !== "granted") return undefined;
  try {
    return Deno.dlopen(name, symbols).symbols;
  } catch {
    return undefined;
  }
}
