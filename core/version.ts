/**
 * Which source a program was made from.
 * @module
 */

/** Variable that holds the revision; what makes executables puts it into them. */
export const BUILD_REVISION_VARIABLE = "FIREZONE_BUILD_REVISION";

/** The git revision in hex; `undefined` for a program that runs from its source. */
export function buildRevision(): string | undefined {
  const revision = Deno.env.get(BUILD_REVISION_VARIABLE);
  return revision !== undefined && /^[0-9a-f]{7,64}$/.test(revision) ? revision : undefined;
}
