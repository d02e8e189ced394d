/**
 * An `/etc` of its own for a program and those that share it.
 * @module
 */

/** Enough of `/etc` for programs to find users, libraries and names. */
const COPIED_FILES = ["passwd", "group", "ld.so.cache"];

/** A folder that stands in for `/etc`, and the command that lets a program see it so. */
export class PrivateEtc {
  readonly folder: string;

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
    Deno.writeTextFileSync(`${folder}/resolv.conf`, resolvConf);
  }

  get resolvConf(): string {
    return Deno.readTextFileSync(`${this.folder}/resolv.conf`);
  }

  get wrapper(): string[] {
    const script = `mount --bind '${this.folder}' /etc && exec "$@"`;
    return ["unshare", "--mount", "sh", "-c", script, "sh"];
  }
}
