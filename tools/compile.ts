/**
 * Makes single-file executables of the programs: `deno task compile [NAME…]`.
 *
 * Real `deno compile` output where its base binary can be had, else files that unpack themselves
 * (see `pack.ts`). Which of the two was made is printed, and what was made is run once: a base
 * binary that is not the right one yields files that are not the program.
 * @module
 */

import { BUILD_REVISION_VARIABLE } from "@firezone/core/version";
import { findUrlReferences } from "./module_graph.ts";
import { type PackedFile, Packer } from "./pack.ts";

/** The programs by name, with their entry files. */
export const PROGRAMS: Readonly<Record<string, string>> = {
  "firezone-headless-client": "client/main.ts",
  "firezone-gateway": "gateway/main.ts",
  "firezone-relay": "relay/main.ts",
  "firezone-portal": "portal/main.ts",
};

/**
 * What V8 is told by program. A relay makes its garbage for requests alone, so a small nursery does: it
 * saves a quarter of the memory with ten thousand allocations.
 */
const V8_FLAGS: Readonly<Record<string, string>> = {
  "firezone-relay": "--max-semi-space-size=4",
};

/** How an executable was made. */
export type Form = "compiled" | "packed";

const DESCRIPTION: Readonly<Record<Form, string>> = {
  compiled: "made by deno compile",
  packed: "unpacks itself (Deno and a bundle in one file)",
};

const ROOT = new URL("../", import.meta.url).pathname;

/** Makes executables, remembering what need not be done twice. */
export class Compiler {
  #compileWorks = true;
  #packer: Packer | undefined;
  /** Why `deno compile` is not used, once that is known. */
  whyPacked: string | undefined;

  /** Makes the executable `out` of an entry file; the program is called `name`. */
  async make(name: string, entry: string, out: string): Promise<Form> {
    if (this.#compileWorks) {
      this.whyPacked = await compile(name, entry, out, await stamp());
      if (this.whyPacked === undefined) return "compiled";
      this.#compileWorks = false;
    }
    await this.pack(name, entry, out);
    return "packed";
  }

  /** Makes a file that unpacks itself, whether or not it could be compiled. */
  async pack(name: string, entry: string, out: string): Promise<void> {
    this.#packer ??= new Packer(await Deno.readFile(Deno.execPath()));
    const files = await bundle(entry);
    const flags = V8_FLAGS[name];
    const environment = { ...await stamp(), ...flags && { DENO_V8_FLAGS: flags } };
    const packed = this.#packer.pack({ name, main: "main.js", files, environment });
    await replaceExecutable(out, packed);
    const wrong = await whatIsWrong(name, out);
    if (wrong !== undefined) throw new Error(`${out} does not work: ${wrong}`);
  }
}

if (import.meta.main) await main(Deno.args);

async function main(args: readonly string[]): Promise<void> {
  const unknown = args.find((name) => PROGRAMS[name] === undefined);
  if (unknown !== undefined) {
    console.error(`There is no program ${unknown}: expected ${Object.keys(PROGRAMS).join(", ")}`);
    Deno.exit(1);
  }
  await Deno.mkdir(`${ROOT}dist`, { recursive: true });
  const compiler = new Compiler();
  for (const name of args.length === 0 ? Object.keys(PROGRAMS) : args) {
    const out = `${ROOT}dist/${name}`;
    const form = await compiler.make(name, `${ROOT}${PROGRAMS[name]}`, out);
    const megabytes = ((await Deno.stat(out)).size / 1e6).toFixed(0);
    console.log(`dist/${name}: ${DESCRIPTION[form]}, ${megabytes} MB`);
  }
  if (compiler.whyPacked !== undefined) {
    console.log(`deno compile was not possible: ${compiler.whyPacked}`);
  }
}

/** Runs `deno compile`; why it did not work, if it did not. */
async function compile(
  name: string,
  entry: string,
  out: string,
  environment: Readonly<Record<string, string>>,
): Promise<string | undefined> {
  const includes = (await findUrlReferences(entry)).flatMap((file) => ["--include", file.path]);
  const temporary = `${out}.compiling`;
  const envFile = `${out}.env`;
  try {
    const lines = Object.entries(environment).map(([key, value]) => `${key}=${value}\n`);
    await Deno.writeTextFile(envFile, lines.join(""));
    const flags = V8_FLAGS[name] === undefined ? [] : [`--v8-flags=${V8_FLAGS[name]}`];
    const options = ["-A", `--env-file=${envFile}`, ...flags, ...includes, "--output", temporary];
    const failure = await deno(["compile", ...options, entry]);
    if (failure !== undefined) return failure;
    const wrong = await whatIsWrong(name, temporary);
    if (wrong !== undefined) return wrong;
    await Deno.rename(temporary, out);
  } finally {
    for (const file of [temporary, envFile]) await Deno.remove(file).catch(() => {});
  }
}

/** Variables by which a program knows what it was made from; none outside of a git checkout. */
async function stamp(): Promise<Readonly<Record<string, string>>> {
  const given = Deno.env.get(BUILD_REVISION_VARIABLE);
  const git = new Deno.Command("git", { args: ["rev-parse", "HEAD"], cwd: ROOT, stderr: "null" });
  const found = given ??
    await git.output().then((o) => new TextDecoder().decode(o.stdout).trim(), () => "");
  return /^[0-9a-f]{7,64}$/.test(found) ? { [BUILD_REVISION_VARIABLE]: found } : {};
}

/** Bundles a program's entry file and what it names by URL; file names stay as they are. */
async function bundle(entry: string): Promise<PackedFile[]> {
  const sources = [{ name: "main.js", path: entry, isModule: true }];
  sources.push(...await findUrlReferences(entry));
  const names = sources.map((source) => source.name);
  const clash = names.find((name, index) => name.includes("/") || names.indexOf(name) !== index);
  if (clash !== undefined) {
    throw new Error(`Cannot bundle ${entry}: ${clash} is not a file name of its own`);
  }
  const folder = await Deno.makeTempDir();
  try {
    return await Promise.all(sources.map(async ({ name, path, isModule }) => {
      if (!isModule) return { name, content: await Deno.readFile(path) };
      const out = `${folder}/${name}`;
      const failure = await deno(["bundle", "--platform", "deno", "--output", out, path]);
      if (failure !== undefined) throw new Error(`Cannot bundle ${path}: ${failure}`);
      return { name, content: await Deno.readFile(out) };
    }));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What keeps a file from being the program of that name: it has to tell its name and version. */
async function whatIsWrong(name: string, file: string): Promise<string | undefined> {
  const unpackFolder = await Deno.makeTempDir();
  const { code, stdout, stderr } = await new Deno.Command(file, {
    args: ["--version"],
    env: { FIREZONE_UNPACK_DIR: unpackFolder },
    stdin: "null",
  }).output();
  await Deno.remove(unpackFolder, { recursive: true });
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout).trim();
  if (code === 0 && new RegExp(`^${name} \\d+\\.\\d+\\.\\d+$`).test(text)) return undefined;
  const words = [text, decoder.decode(stderr).trim()].filter((t) => t !== "").join("; ");
  return `--version ended with status ${code} and said: ${
    words.split("\n").slice(0, 3).join("; ")
  }`;
}

/** Runs `deno`; its complaint in one line when it fails. */
async function deno(args: readonly string[]): Promise<string | undefined> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (success) return undefined;
  const lines = new TextDecoder().decode(stderr).split("\n").map((line) => line.trim());
  const from = lines.findIndex((line) => line.startsWith("error:"));
  const to = lines.findIndex((line) => line.startsWith("Stack backtrace"));
  return lines.slice(Math.max(from, 0), to < 0 ? undefined : to).filter((line) => line !== "")
    .join(" ");
}

/** A new file in the place of the old one, which may be running. */
async function replaceExecutable(path: string, content: Uint8Array): Promise<void> {
  await Deno.writeFile(`${path}.new`, content);
  await Deno.chmod(`${path}.new`, 0o755);
  await Deno.rename(`${path}.new`, path);
}
