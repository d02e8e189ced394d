/**
 * A folder that stands in for `/etc` for programs that are run by it, so that resolv.conf is theirs.
 * @module
 */

/** Enough of `/etc` for programs to find users, libraries and names. */
const COPIED_FILES = ["passwd", "group", "ld.so.cache"];

/** See the head of this file. */
export class PrivateEtc {
  /** Where it is. */
  readonly folder: string;

  /** Makes the folder. */
  constructor(folder: string, resolvConf: string) {
    this.folder = folder;
    Deno.mkdirSync(folder, { mode: 0o755 });
    for (const name of COPIED_FILES) {
      try {
        Deno.copyFileSync(`/etc/${name}`, `${folder}/${name}`);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    Deno.writeTextFileSync(`${folder}/nsswitch.conf`, "hosts: files dns\n");
    Deno.writeTextFileSync(`${folder}/hosts`, "127.0.0.1 localhost\n");
    Deno.writeTextFileSync(this.path, resolvConf);
  }

  /** Where resolv.conf is. */
  get path(): string {
    return `${this.folder}/resolv.conf`;
  }

  /** What resolv.conf says. */
  get resolvConf(): string {
    return Deno.readTextFileSync(this.path);
  }

  /** The command that lets a program see the folder as `/etc`. */
  get wrapper(): string[] {
    const script = `mount --bind '${this.folder}' /etc && exec "$@"`;
    return ["unshare", "--mount", "sh", "-c", script, "sh"];
  }
}
