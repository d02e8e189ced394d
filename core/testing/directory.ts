/**
 * A directory for the time of a test.
 * @module
 */

/** Lends a fresh directory, which is gone afterwards with all that is in it. */
export function withDirectory(run: (path: string) => void): void {
  const directory = Deno.makeTempDirSync();
  try {
    run(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
