/**
 * Finds the files that a program loads by URL: entry files of workers, and assets.
 *
 * They are written `new URL("./name.ts", import.meta.url)`, which neither `deno compile` nor
 * `deno bundle` follows.
 * @module
 */

/** A file that a program names by URL. */
export interface UrlReference {
  /** As written, without the leading `./`. */
  readonly name: string;
  /** The file. */
  readonly path: string;
  /** Whether it is a module, which has to be bundled in turn. */
  readonly isModule: boolean;
}

interface ModuleInfo {
  readonly modules: readonly { readonly local?: string; readonly specifier: string }[];
}

/** All files named by URL in a program's local modules, and in the modules among them in turn. */
export async function findUrlReferences(entry: string): Promise<UrlReference[]> {
  const found = new Map<string, UrlReference>();
  const entries = [entry];
  for (const file of entries) {
    for (const reference of await referencesOf(file)) {
      if (found.has(reference.path)) continue;
      found.set(reference.path, reference);
      if (reference.isModule) entries.push(reference.path);
    }
  }
  return [...found.values()];
}

async function referencesOf(entry: string): Promise<UrlReference[]> {
  const found: UrlReference[] = [];
  for (const path of await localModules(entry)) {
    const text = withoutComments(await Deno.readTextFile(path));
    for (const [, name] of text.matchAll(/new URL\(\s*"\.\/([^"]+)",\s*import\.meta\.url/g)) {
      const target = new URL(name!, new URL(`file://${path}`)).pathname;
      found.push({ name: name!, path: target, isModule: /\.[jt]s$/.test(name!) });
    }
  }
  return found;
}

/** Without the lines that are comments from end to end, which may hold examples. */
function withoutComments(text: string): string {
  return text.split("\n").filter((line) => !/^\s*(\*|\/[*/])/.test(line)).join("\n");
}

async function localModules(entry: string): Promise<string[]> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", entry],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`Cannot read the modules of ${entry}: ${decoder.decode(stderr)}`);
  const info: ModuleInfo = JSON.parse(decoder.decode(stdout));
  return info.modules.filter((m) => m.specifier.startsWith("file:")).flatMap((m) => m.local ?? []);
}
