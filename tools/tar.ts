/**
 * Plain tar archives (POSIX.1-1988 "ustar"): regular files with short names, all that packing needs.
 *
 *       0  name, ends in NUL        124  size, octal        156  "0": regular file
 *     100  mode, octal              136  mtime, octal       257  "ustar" NUL "00"
 *     108  uid, 116 gid, octal      148  sum of all bytes of the header, itself taken as blanks
 * @module
 */

const BLOCK = 512;
const utf8 = new TextEncoder();

/** What ends an archive. */
export const TAR_END: Uint8Array = new Uint8Array(2 * BLOCK);

/**
 * One file of an archive: header, content, padding.
 *
 * Owner and time are left at zero, so the same files make the same archive.
 */
export function tarEntry(name: string, content: Uint8Array, mode: number): Uint8Array {
  const nameBytes = utf8.encode(name);
  if (nameBytes.length >= 100) throw new RangeError(`Name too long for a tar archive: ${name}`);
  const padded = Math.ceil(content.length / BLOCK) * BLOCK;
  const entry = new Uint8Array(BLOCK + padded);
  const octal = (offset: number, digits: number, value: number) =>
    entry.set(utf8.encode(value.toString(8).padStart(digits, "0")), offset);
  entry.set(nameBytes, 0);
  octal(100, 7, mode);
  octal(108, 7, 0);
  octal(116, 7, 0);
  octal(124, 11, content.length);
  octal(136, 11, 0);
  entry.fill(0x20, 148, 156);
  entry[156] = 0x30;
  entry.set(utf8.encode("ustar\0" + "00"), 257);
  const sum = entry.subarray(0, BLOCK).reduce((total, byte) => total + byte, 0);
  octal(148, 6, sum);
  entry[154] = 0;
  entry.set(content, BLOCK);
  return entry;
}
