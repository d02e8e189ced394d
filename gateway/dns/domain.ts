/**
 * Names as clients write them.
 * @module
 */

const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
/** What `getaddrinfo` would take for a part of an IPv4 address (`10.1`, `0x7f000001`). */
const NUMBER = /^(\d+|0x[0-9a-f]*)$/;

/**
 * A name in lower case and without a final dot, or undefined when nothing with that name can be
 * resolved: names that read as addresses would be "resolved" without asking anybody.
 */
export function toDomain(text: string): string | undefined {
  const domain = text.toLowerCase().replace(/\.$/, "");
  const labels = domain.split(".");
  if (domain.length > 253 || !labels.every((label) => LABEL.test(label))) return undefined;
  return NUMBER.test(labels.at(-1)!) ? undefined : domain;
}
