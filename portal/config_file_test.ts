import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { type ConfigChange, ConfigWatcher, findConfigPath, readConfigText } from "./config_file.ts";

/** A file in a folder of its own, and what a watcher reports about it. */
class WatchedFile implements Disposable {
  readonly folder = Deno.makeTempDirSync();
  readonly path = `${this.folder}/portal.jsonc`;
  readonly #changes: ConfigChange[] = [];
  readonly #watcher: ConfigWatcher;
  #waiting: (() => void) | undefined;

  constructor(text: string) {
    Deno.writeTextFileSync(this.path, text);
    this.#watcher = new ConfigWatcher(this.path, text, (change) => {
      this.#changes.push(change);
      this.#waiting?.();
    }, 5);
  }

  async next(): Promise<ConfigChange> {
    if (this.#changes.length === 0) await new Promise<void>((resolve) => this.#waiting = resolve);
    return this.#changes.shift()!;
  }

  reload(): void {
    this.#watcher.reload();
  }

  [Symbol.dispose](): void {
    this.#watcher[Symbol.dispose]();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

Deno.test("a file is noticed when written, replaced, broken, removed and back", async () => {
  using file = new WatchedFile("{}");
  Deno.writeTextFileSync(file.path, `{ "account_slug": "one" }`);
  const written = await file.next();
  assert(written.tag === "changed" && written.parsed.ok);
  assertEquals(written.parsed.config.accountSlug, "one");

  Deno.writeTextFileSync(`${file.folder}/new`, `{ "account_slug": "two" }`);
  Deno.renameSync(`${file.folder}/new`, file.path);
  const replaced = await file.next();
  assert(replaced.tag === "changed" && replaced.parsed.ok);
  assertEquals(replaced.parsed.config.accountSlug, "two");

  Deno.writeTextFileSync(file.path, `{ "account_slug": }`);
  const broken = await file.next();
  assert(broken.tag === "changed" && !broken.parsed.ok);
  assertEquals(broken.parsed.mistakes[0]!.line, 1);

  Deno.removeSync(file.path);
  assertEquals((await file.next()).tag, "unreadable");

  Deno.writeTextFileSync(file.path, `{ "account_slug": "three" }`);
  const back = await file.next();
  assert(back.tag === "changed" && back.parsed.ok);
});

Deno.test("a reload reports the file even where it has not changed", async () => {
  using file = new WatchedFile("{}");
  file.reload();
  const change = await file.next();
  assert(change.tag === "changed" && change.parsed.ok);
});

Deno.test("a file that cannot be read is an error in one line", () => {
  const error = assertThrows(() => readConfigText("/nowhere/portal.jsonc"), ConfigError);
  assert(error.message.startsWith("Cannot read configuration /nowhere/portal.jsonc: "));
  assertEquals(findConfigPath("given"), "given");
});
