/**
 * Self-extracting programs: the Deno binary and a bundle in one executable file.
 *
 *     | shell script | gzip(tar: runtime) | gzip(tar: bundle, end) |
 *
 * The first start unpacks into a cache folder named by the content's hash, into a temporary name
 * that is then renamed, so any number of first starts at once are safe; later starts cost only the
 * shell. `exec` keeps the process id, hence signals and exit statuses are the program's own.
 *
 * Root's copies live under `/var/cache`: whoever can write where root's programs are unpacked is
 * root. A cache folder of another owner is refused.
 * @module
 */

import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { TAR_END, tarEntry } from "./tar.ts";

/** A file of a bundle. */
export interface PackedFile {
  /** Name within the bundle, without folders. */
  readonly name: string;
  /** Its bytes. */
  readonly content: Uint8Array;
}

/** What {@link Packer.pack} makes a program of. */
export interface Program {
  /** Its name, which is also that of its cache folder. */
  readonly name: string;
  /** The bundle. */
  readonly files: readonly PackedFile[];
  /** Which of the files is run. */
  readonly main: string;
  /** Variables that it finds set; names and values of letters, digits and `_` alone. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** Packs programs around one runtime, which is compressed once. */
export class Packer {
  readonly #runtime: Uint8Array;

  /** Takes the Deno binary. */
  constructor(runtime: Uint8Array) {
    this.#runtime = gzipSync(tarEntry("deno", runtime, 0o755), { level: 6 });
  }

  /** The bytes of a file that is the program. */
  pack(program: Program): Uint8Array {
    const files = program.files.map((file) => tarEntry(file.name, file.content, 0o644));
    // gzip reads members one after the other as one stream, so the runtime's is made only once.
    const bundle = gzipSync(concat([...files, TAR_END]));
    const id = createHash("sha256").update(this.#runtime).update(bundle).digest("hex");
    // The script says at which byte the archive begins, which is after itself.
    let script = new Uint8Array();
    for (let offset = 0; offset !== script.length + 1;) {
      offset = script.length + 1;
      script = new TextEncoder().encode(unpackScript(program, id, offset));
    }
    return concat([script, this.#runtime, bundle]);
  }
}

function unpackScript(program: Program, id: string, offset: number): string {
  const { name, main, environment = {} } = program;
  const variables = Object.entries(environment).map(([key, value]) => ` ${key}=${value}`).join("");
  return `#!/bin/sh
# ${name}: unpacks itself once, then runs. FIREZONE_UNPACK_DIR chooses where.
set -eu
id=${id}
find_folder() {
  for base in "\${FIREZONE_UNPACK_DIR:-}" "$@"; do
    case $base in /*) ;; *) continue ;; esac
    folder=$base/${name}
    if [ -f "$folder/$id/complete" ]; then return 0; fi
    if mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ]; then return 0; fi
  done
  echo "${name}: Cannot unpack: no cache folder is writable; set FIREZONE_UNPACK_DIR" >&2
  exit 1
}
user_cache=\${XDG_CACHE_HOME:-\${HOME:-}/.cache}
if [ "$(id -u)" = 0 ]; then find_folder /var/cache "$user_cache"; else find_folder "$user_cache"; fi
dir=$folder/$id
if [ ! -f "$dir/complete" ]; then
  new=$(mktemp -d "$folder/unpacking.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  tail -c +${offset} "$0" | gzip -dc | tar -xf - -C "$new" --no-same-owner
  : > "$new/complete"
  chmod 0755 "$new"
  mv -T "$new" "$dir" 2>/dev/null || [ -f "$dir/complete" ]
  trap - INT TERM EXIT
  rm -rf "$new"
fi
if [ ! -O "$folder" ] || [ ! -O "$dir" ]; then
  echo "${name}: Cannot run from $dir: it belongs to another user; set FIREZONE_UNPACK_DIR" >&2
  exit 1
fi
export DENO_NO_UPDATE_CHECK=1 DENO_DIR="$dir/cache"${variables}
exec "$dir/deno" run -A --no-config --no-lock --no-remote --no-npm "$dir/${main}" "$@"
`;
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
