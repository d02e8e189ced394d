/**
 * Where the client's token comes from.
 * @module
 */

import {
  ConfigError,
  readCredential,
  readTokenFile,
  type Secret,
  takeSecretEnv,
} from "@firezone/core/cli";

/** The variable that may hold the token, and the name of the systemd credential that may. */
export const TOKEN_VARIABLE = "FIREZONE_TOKEN";

/** The file that holds the token unless another is named. */
export const DEFAULT_TOKEN_PATH: string = Deno.build.os === "windows"
  ? `${Deno.env.get("ProgramData") ?? "C:\\ProgramData"}\\dev.firezone.client\\token.txt`
  : "/etc/dev.firezone.client/token";

/**
 * The token from the environment, which is cleared of it at once, or else from the credential that
 * systemd passes (`LoadCredential=FIREZONE_TOKEN:…`), or else from a file.
 *
 * @throws ConfigError if it is in none of these, or others could read the file
 */
export function loadToken(path: string = DEFAULT_TOKEN_PATH): Secret {
  const token = takeSecretEnv(TOKEN_VARIABLE) ?? readCredential(TOKEN_VARIABLE) ??
    readTokenFile(path);
  if (token !== undefined) return token;
  throw new ConfigError(
    `Can't find the Firezone token in $${TOKEN_VARIABLE} or in ${path}: ` +
      "set the variable, or write the file with mode 0600",
  );
}
